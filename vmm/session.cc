// SPDX-License-Identifier: Apache-2.0
#include "vmm/session.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/head_tail.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "base/utf8.h"
#include "vmm/digest.h"
#include "vmm/process.h"

namespace ktstr::vmm {
namespace {

constexpr size_t kTailLines = 20;
constexpr size_t kMaxTailBytes = 16 << 10;
constexpr size_t kMaxDetailBytes = 8 << 10;
// An invalid byte becomes three; a message holds 128 KiB.
constexpr uint64_t kConsolePiece = 8 << 10;

// VmEnd.console_tail: where the guest stood.
std::string LastLines(std::string text) {
  if (text.size() > kMaxTailBytes) text.erase(0, text.size() - kMaxTailBytes);
  return base::PrintableTail(text, kTailLines);
}

int64_t Nanoseconds(absl::Duration duration) {
  return std::max<int64_t>(0, absl::ToInt64Nanoseconds(duration));
}

}  // namespace

Session::Session(Machine* machine, Window window, absl::Duration started, Options options)
    : machine_(machine),
      window_(std::move(window)),
      options_(std::move(options)),
      started_(started),
      deadline_(started + options_.timeout) {}

absl::Duration Session::TimeLeft() const { return deadline_ - options_.clock->Monotonic(); }

absl::StatusOr<Session::State> Session::Step() {
  while (!end_.has_value() && !stopped_) {
    absl::StatusOr<std::optional<MachineEvent>> event = machine_->NextEvent();
    if (!event.ok()) {
      EngineLost(base::ToStd(event.status().message()));
      break;
    }
    if (!event->has_value()) break;
    KTSTR_RETURN_IF_ERROR(HandleEvent(**event));
  }
  if (!end_.has_value() && !stopped_) KTSTR_RETURN_IF_ERROR(DrainRing());
  if (!end_.has_value() && !stopped_) CheckLimits();
  if (options_.console) KTSTR_RETURN_IF_ERROR(TellConsole());
  if (end_.has_value()) return State::kEnded;
  return stopped_ ? State::kStopped : State::kRuns;
}

absl::Status Session::Begin(int bundle_fd) {
  const absl::StatusOr<uint32_t> doorbell = window_.Doorbell();
  attached_ = doorbell.ok() && *doorbell == window::kDoorbellAttached;
  KTSTR_RETURN_IF_ERROR(DrainRing());
  if (end_.has_value()) return absl::OkStatus();
  if (!doorbell.ok()) {
    EngineLost(base::ToStd(doorbell.status().message()));
  } else if (*doorbell != window::kDoorbellReady && !attached_) {
    EngineLost(absl::StrCat("the snapshot stands at doorbell ", *doorbell,
                            " instead of Ready or Attached"));
  } else if (absl::Status written = window_.WriteBundle(bundle_fd); !written.ok()) {
    EngineLost(base::ToStd(written.message()));
  } else {
    ResumeFromDoorbell();
  }
  return absl::OkStatus();
}

absl::Status Session::HandleEvent(const MachineEvent& event) {
  switch (event.kind) {
    case MachineEvent::Kind::kStopped:
      return HandleDoorbell(/*rang=*/false);
    case MachineEvent::Kind::kRang:
      return HandleDoorbell(/*rang=*/true);
    case MachineEvent::Kind::kRendezvous:
      return HandleRendezvous();
    case MachineEvent::Kind::kPoweredOff:
      KTSTR_RETURN_IF_ERROR(DrainRing());
      if (!end_.has_value()) Finish(v1::VmEnd::GUEST_POWERED_OFF, {});
      return absl::OkStatus();
    case MachineEvent::Kind::kReset:
      KTSTR_RETURN_IF_ERROR(DrainRing());
      if (!end_.has_value()) Finish(v1::VmEnd::GUEST_RESET, {});
      return absl::OkStatus();
    case MachineEvent::Kind::kEnded:
      KTSTR_RETURN_IF_ERROR(DrainRing());
      if (!end_.has_value()) EngineLost(absl::StrCat("the engine ", event.detail));
      return absl::OkStatus();
  }
  return absl::OkStatus();
}

// The guest stands still at a definite instruction here.
absl::Status Session::HandleDoorbell(bool rang) {
  KTSTR_RETURN_IF_ERROR(DrainRing());
  if (end_.has_value()) return absl::OkStatus();
  absl::StatusOr<uint32_t> doorbell = window_.Doorbell();
  // The engine is gone, which NextEvent() reports.
  if (absl::IsUnavailable(doorbell.status())) return absl::OkStatus();
  if (!doorbell.ok()) {
    EngineLost(base::ToStd(doorbell.status().message()));
    return absl::OkStatus();
  }
  if (rang && *doorbell == window::kDoorbellFirstStep && !first_step_rang_ && options_.until == 0) {
    return HandleFirstStep();
  }
  if (rang && *doorbell != window::kDoorbellRingFull && *doorbell != window::kDoorbellDone) {
    Misbehaved(absl::StrCat("it rang the bell for ", *doorbell));
    return absl::OkStatus();
  }
  switch (*doorbell) {
    case window::kDoorbellNone:
      Finish(v1::VmEnd::PANIC, {});
      break;
    case window::kDoorbellReady:
    case window::kDoorbellAttached:
      if (options_.until == *doorbell) {
        stopped_ = true;
      } else {
        Misbehaved(absl::StrCat(
            "it rang ", *doorbell == window::kDoorbellReady ? "Ready" : "Attached", " unasked"));
      }
      break;
    case window::kDoorbellRingFull:
      ring_was_full_ = true;
      ResumeFromDoorbell();
      break;
    case window::kDoorbellDone:
      HandleDone(rang);
      break;
    default:
      Misbehaved(absl::StrCat("unknown doorbell ", *doorbell));
  }
  return absl::OkStatus();
}

absl::Status Session::HandleFirstStep() {
  first_step_rang_ = true;
  if (const std::optional<absl::Duration> now = machine_->GuestTime();
      now.has_value() && machine_->HasBoundedTurns()) {
    ends_at_ = *now + options_.run_limit - options_.attach_limit;
    KTSTR_RETURN_IF_ERROR(Look(*now));
  }
  ResumeFromDoorbell();
  return absl::OkStatus();
}

absl::Status Session::HandleRendezvous() {
  KTSTR_RETURN_IF_ERROR(DrainRing());
  if (end_.has_value()) return absl::OkStatus();
  const absl::Duration now = machine_->GuestTime().value_or(absl::ZeroDuration());
  if (!ends_at_.has_value()) {
    EngineLost("it kept a rendezvous that nobody asked for");
    return absl::OkStatus();
  }
  if (!done_.has_value() && now >= *ends_at_) {
    EndAtLimit(options_.run_limit - options_.attach_limit,
               options_.attach_limit > absl::ZeroDuration());
    return absl::OkStatus();
  }
  KTSTR_RETURN_IF_ERROR(Look(now));
  Resume();
  return absl::OkStatus();
}

absl::Status Session::Look(absl::Duration now) {
  absl::Duration next = done_.has_value() ? absl::InfiniteDuration() : *ends_at_;
  if (options_.look) {
    KTSTR_RETURN_IF_ERROR(options_.look(now));
    next = std::min(next, absl::Floor(now, options_.look_period) + options_.look_period);
  }
  if (const absl::Status set = machine_->SetRendezvous(next); !set.ok()) {
    EngineLost(base::ToStd(set.message()));
  }
  return absl::OkStatus();
}

void Session::HandleDone(bool rang) {
  if (options_.take_digest) {
    absl::StatusOr<std::string> digest = DigestOf(machine_->Memory());
    if (!digest.ok()) {
      EngineLost(base::ToStd(digest.status().message()));
      return;
    }
    digest_ = *std::move(digest);
  }
  kept_ = rang && options_.keep_machine && machine_->CanRewind();
  Finish(v1::VmEnd::DONE, {});
}

void Session::ResumeFromDoorbell() {
  if (end_.has_value()) return;
  if (const absl::Status answered = window_.AnswerDoorbell(); !answered.ok()) {
    EngineLost(base::ToStd(answered.message()));
    return;
  }
  Resume();
}

void Session::Resume() {
  if (end_.has_value()) return;
  if (const absl::Status resumed = machine_->Resume(); !resumed.ok()) {
    EngineLost(base::ToStd(resumed.message()));
  }
}

bool Session::RingIsWhole() const {
  return !ring_was_full_ && window_.bytes_read() <= window::kRingSize;
}

// Ignores Unavailable: then the engine is gone, which NextEvent() reports.
absl::Status Session::DrainRing() {
  if (absl::StatusOr<uint32_t> stage = window_.Stage(); stage.ok()) claimed_stage_ = *stage;
  while (true) {
    absl::StatusOr<std::optional<WindowFrame>> frame = window_.Next();
    if (absl::IsUnavailable(frame.status())) return absl::OkStatus();
    if (!frame.ok()) {
      Misbehaved(base::ToStd(frame.status().message()));
      return absl::OkStatus();
    }
    if (!frame->has_value()) return absl::OkStatus();
    if (window_.bytes_read() > kMaxRingBytes) {
      Misbehaved(absl::StrCat("ring flood: more than ", kMaxRingBytes >> 20, " MiB of frames"));
      return absl::OkStatus();
    }
    v1::Observation observation;
    if (!observation.ParseFromString((*frame)->payload)) {
      Misbehaved(absl::StrCat("frame ", (*frame)->sequence, " holds no valid observation"));
      return absl::OkStatus();
    }
    if (observation.fact_case() == v1::Observation::kVmEnd) {
      Misbehaved(absl::StrCat("frame ", (*frame)->sequence, " pretends to come from the host"));
      return absl::OkStatus();
    }
    // The agent stamps what lasts with its beginning. Nothing is seen after it was reported.
    const uint64_t seen = observation.guest_time_ns();
    if (seen == 0 || seen > (*frame)->guest_time_ns) {
      observation.set_guest_time_ns((*frame)->guest_time_ns);
    }
    NoteTimes(observation);
    KTSTR_RETURN_IF_ERROR(options_.observe(std::move(observation)));
  }
}

void Session::NoteTimes(const v1::Observation& observation) {
  if (observation.has_stage() && v1::Stage_IsValid(observation.stage().stage())) {
    last_stage_ = std::max(last_stage_, observation.stage().stage());
    if (observation.stage().stage() == v1::READY && !ready_.has_value()) {
      ready_ = options_.clock->Monotonic();
      if (!attached_) {
        options_.progress(
            absl::StrFormat("guest ready after %.1f s", absl::ToDoubleSeconds(*ready_ - started_)));
      }
    }
  }
  if (observation.stage().stage() == v1::DONE && !done_.has_value()) {
    done_ = options_.clock->Monotonic();
  }
  if (!observation.has_step_mark()) return;
  const absl::Duration now = options_.clock->Monotonic();
  if (observation.step_mark().edge() == v1::StepMark::BEGIN && !first_step_.has_value()) {
    first_step_ = now;
  }
  if (observation.step_mark().edge() == v1::StepMark::END) last_step_end_ = now;
}

absl::Status Session::TellConsole() {
  constexpr uint64_t kHead = Console::kCap - Console::kTailBytes;
  const bool last = end_.has_value() || stopped_;
  const uint64_t size = machine_->GuestConsole().size();
  // The end of a console over its cap is not known before; what is below is told whole.
  if (!last || size <= Console::kCap) return TellConsoleTo(last ? size : kHead, last);
  KTSTR_RETURN_IF_ERROR(TellConsoleTo(kHead, last));
  if (const uint64_t tail = size - Console::kTailBytes; console_told_ < tail) {
    const uint64_t left_out = tail - console_told_;
    console_told_ = tail;
    KTSTR_RETURN_IF_ERROR(options_.console(absl::StrCat("\n", base::LeftOutLine(left_out), "\n")));
  }
  return TellConsoleTo(size, last);
}

absl::Status Session::TellConsoleTo(uint64_t end, bool last) {
  while (console_told_ < end) {
    absl::StatusOr<std::string> text = machine_->GuestConsole().TextFrom(
        console_told_, std::min(kConsolePiece, end - console_told_));
    if (!text.ok() || text->empty()) break;
    // A line longer than a piece is sent in parts.
    const size_t line_end = text->rfind('\n');
    if (line_end != std::string::npos) {
      text->resize(line_end + 1);
    } else if (!last && text->size() < kConsolePiece && console_told_ + text->size() < end) {
      break;
    }
    console_told_ += text->size();
    KTSTR_RETURN_IF_ERROR(options_.console(base::SanitizeUtf8(*text)));
  }
  return absl::OkStatus();
}

void Session::CheckLimits() {
  if (machine_->GuestConsole().OverCap()) {
    Misbehaved(absl::StrCat("console flood: more than ", Console::kCap >> 20, " MiB"));
  } else if (done_.has_value()) {
    CheckAfterDone();
  } else if (CheckGuestTime()) {
    return;
  } else if (TimeLeft() <= absl::ZeroDuration()) {
    FinishHung(v1::VmEnd::TIMEOUT,
               absl::StrCat("the host's time limit of ", absl::FormatDuration(options_.timeout),
                            " was reached"));
  }
}

bool Session::CheckGuestTime() {
  const std::optional<absl::Duration> now = machine_->GuestTime();
  if (!now.has_value()) return false;
  if (!ready_.has_value()) {
    if (*now < options_.boot_limit) return false;
    FinishHung(v1::VmEnd::GUEST_HUNG,
               absl::StrCat("the boot's limit of ", absl::FormatDuration(options_.boot_limit),
                            " of guest time was reached"));
    return true;
  }
  if (ends_at_.has_value()) return false;
  // A restored guest has reported READY before it runs.
  if (!guest_ready_.has_value()) guest_ready_ = now;
  if (last_stage_ >= v1::SCHEDULER_ENABLED && !guest_enabled_.has_value()) guest_enabled_ = now;
  absl::Duration limit = options_.run_limit;
  absl::Duration since = *guest_ready_;
  const bool rest = guest_enabled_.has_value() && *guest_enabled_ - since < options_.attach_limit;
  if (rest) {
    limit -= options_.attach_limit;
    since = *guest_enabled_;
  }
  if (*now - since < limit) return false;
  EndAtLimit(limit, rest);
  return true;
}

void Session::EndAtLimit(absl::Duration limit, bool after_attach) {
  FinishHung(v1::VmEnd::GUEST_HUNG,
             absl::StrCat("the limit of ", absl::FormatDuration(limit), " of guest time",
                          after_attach ? " after the attach" : "", " was reached"));
}

// The observations are complete: a guest that hangs before its last doorbell costs the digest only.
void Session::CheckAfterDone() {
  const std::optional<absl::Duration> now = machine_->GuestTime();
  if (!guest_done_.has_value()) guest_done_ = now;
  const bool hangs = now.has_value() && *now - *guest_done_ >= options_.done_limit;
  if (!hangs && options_.clock->Monotonic() - *done_ < options_.done_patience) return;
  FinishHung(
      v1::VmEnd::DONE,
      absl::StrCat("no digest: the guest did not reach its last doorbell within ",
                   hangs ? absl::StrCat(absl::FormatDuration(options_.done_limit), " of guest time")
                         : absl::FormatDuration(options_.done_patience),
                   " after DONE"));
}

void Session::Cancel(const std::string& reason) {
  if (!end_.has_value()) Finish(v1::VmEnd::CANCELLED, reason);
}

void Session::Misbehaved(std::string_view what) {
  Finish(v1::VmEnd::GUEST_MISBEHAVED, absl::StrCat("guest broke the rules: ", base::ToAbsl(what)));
}

// The guest's flood, not the engine, is the cause when the engine dies at its file size limit.
void Session::EngineLost(std::string_view what) {
  if (machine_->GuestConsole().OverCap()) {
    Misbehaved(absl::StrCat("console flood: more than ", Console::kCap >> 20, " MiB"));
    return;
  }
  const std::string said = machine_->EngineOutput();
  Finish(v1::VmEnd::ENGINE_FAILED,
         said.empty() ? std::string(what) : absl::StrCat(base::ToAbsl(what), ": ", said));
}

void Session::Finish(v1::VmEnd::Cause cause, std::string detail) {
  v1::VmEnd& end = end_.emplace();
  const absl::StatusOr<uint32_t> doorbell = window_.Doorbell();
  const bool gave_up = doorbell.ok() && *doorbell == window::kDoorbellGaveUp;
  if (!kept_) machine_->Stop();
  AddVcpus(&end);
  const std::string console = machine_->GuestConsole().Text().value_or("");
  const int claimed = static_cast<int>(claimed_stage_);
  last_stage_ = std::max(last_stage_, AgentStage(console));
  if (v1::Stage_IsValid(claimed)) {
    last_stage_ = std::max(last_stage_, static_cast<v1::Stage>(claimed));
  }
  for (std::string& line : CrashLines(console)) *end.add_crash_line() = std::move(line);
  end.set_agent_error(base::OneLine(AgentError(console), kMaxDetailBytes));
  end.set_agent_gave_up(gave_up);
  end.set_cause(cause);
  end.set_detail(base::PrintableTail(
      base::CutMiddleLines(base::CutMiddle(detail, kMaxDetailBytes / 2, kMaxDetailBytes / 2), 30,
                           30),
      std::numeric_limits<size_t>::max()));
  end.set_last_stage(last_stage_);
  end.set_console_tail(LastLines(console));
  end.set_guest_digest(digest_);
  end.set_console_truncated(machine_->GuestConsole().OverCap());
  end.set_engine_version(machine_->EngineVersion());
  end.set_turns(options_.turns);
  end.set_vcpu_mips(options_.vcpu_mips);
  FillTimes(&end);
}

void Session::FinishHung(v1::VmEnd::Cause cause, std::string detail) {
  vcpus_ = machine_->HaltAndLook();
  Finish(cause, std::move(detail));
}

void Session::AddVcpus(v1::VmEnd* end) {
  if (vcpus_.empty()) return;
  const KernelSymbols symbols = options_.symbols ? options_.symbols() : KernelSymbols();
  for (v1::VcpuState& vcpu : vcpus_) {
    if (!vcpu.user_space()) vcpu.set_symbol(symbols.At(vcpu.rip()));
    *end->add_vcpu() = std::move(vcpu);
  }
}

void Session::FillTimes(v1::VmEnd* end) const {
  const absl::Duration now = options_.clock->Monotonic();
  const absl::Duration ready = ready_.value_or(now);
  const absl::Duration first_step = std::max(ready, first_step_.value_or(now));
  const absl::Duration last_end = std::max(first_step, last_step_end_.value_or(now));
  end->set_host_boot_ns(static_cast<uint64_t>(Nanoseconds(ready - started_)));
  end->set_host_attach_ns(static_cast<uint64_t>(Nanoseconds(first_step - ready)));
  end->set_host_scenario_ns(static_cast<uint64_t>(Nanoseconds(last_end - first_step)));
  end->set_host_teardown_ns(static_cast<uint64_t>(Nanoseconds(now - last_end)));
}

}  // namespace ktstr::vmm
