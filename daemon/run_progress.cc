// SPDX-License-Identifier: Apache-2.0
#include "daemon/run_progress.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/head_tail.h"
#include "base/utf8.h"
#include "scenario/plan.h"

namespace ktstr::daemon {
namespace {
constexpr size_t kMaxLine = 1024;
}  // namespace

void RunProgress::Enter(v1::RunPhase::Phase phase, const std::string& detail) {
  if (phase <= phase_) return;  // The guest repeats a stage, or goes back.
  phase_ = phase;
  reporter_->Phase(phase, detail);
}

void RunProgress::Observe(const v1::Observation& observation) {
  if (observation.has_stage()) {
    switch (observation.stage().stage()) {
      case v1::READY:
        if (scenario_.has_scheduler()) {
          Enter(v1::RunPhase::ATTACHING, scenario_.scheduler().name());
        }
        break;
      case v1::STEPS_RUNNING:
        Enter(v1::RunPhase::RUNNING,
              absl::StrCat(scenario_.step_size(), scenario_.step_size() == 1 ? " step" : " steps"));
        break;
      case v1::COLLECTING:
        Enter(v1::RunPhase::COLLECTING, "");
        break;
      default:
        break;
    }
  }
  if (observation.has_attach_progress() && phase_ == v1::RunPhase::ATTACHING) {
    Say(absl::StrCat("attaching: ", scenario::AttachText(observation.attach_progress()),
                     " so far"));
  }
  const v1::StepMark& mark = observation.step_mark();
  if (observation.has_step_mark() && mark.edge() == v1::StepMark::BEGIN && mark.step() == step_ &&
      step_ < static_cast<uint32_t>(scenario_.step_size())) {
    ++step_;
    Say(absl::StrCat("step ", step_, " of ", scenario_.step_size()));
  }
}

void RunProgress::Say(const std::string& text) {
  v1::RunProgress line;
  line.set_text(base::SanitizeUtf8(base::CutLine(text, kMaxLine)));
  line.set_step(step_);
  line.set_steps_total(scenario_.step_size());
  reporter_->Progress(line);
}

}  // namespace ktstr::daemon
