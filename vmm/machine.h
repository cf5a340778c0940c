// SPDX-License-Identifier: Apache-2.0
//
// One virtual machine, whatever runs it: the interface between ktstr-vm and a machine that an
// engine (engine.h) has started. Everything above this interface is the same for all engines.
//
// Life cycle: Engine::Boot() makes the machine and lets the guest run; Engine::Restore() makes one
// that stands still where its snapshot was taken. At a doorbell and at a panic the guest stands
// still (kStopped) until Resume(). The destructor kills what is left.
//
// One thread, which multiplexes: it polls PollFds() beside its own descriptors, and calls
// NextEvent() until there is none.

#ifndef KTSTR_VMM_MACHINE_H_
#define KTSTR_VMM_MACHINE_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ktstr/v1/observation.pb.h"
#include "vmm/console.h"
#include "vmm/guest_memory.h"
#include "vmm/snapshot.h"

namespace ktstr::vmm {

struct MachineEvent {
  enum class Kind {
    kStopped,     // The guest wrote to the panic port and stands still at that instruction.
    kRang,        // The guest wrote to the bell's port and stands still in that instruction.
    kRendezvous,  // The guest stands still between two turns of its vCPUs (SetRendezvous).
    kPoweredOff,  // The guest does not run again; its memory stays readable.
    kReset,       // The guest reset the machine; the same holds.
    kEnded,       // The engine's process is gone.
  };
  Kind kind;
  std::string detail;  // What the engine reports.
};

class Machine {
 public:
  virtual ~Machine() = default;

  // Readable when NextEvent() may have something.
  virtual std::vector<int> PollFds() const = 0;
  // Never blocks. An error means that the engine broke its protocol: the machine is unusable.
  virtual absl::StatusOr<std::optional<MachineEvent>> NextEvent() = 0;
  // Lets the guest go on: after kStopped, kRang or kRendezvous, or after a restore.
  virtual absl::Status Resume() = 0;
  // After kStopped at a doorbell, on a machine that was booted, or restored as kCopied. Ends the
  // machine, also on an error; do not use Memory() afterwards.
  virtual absl::StatusOr<Snapshot> TakeSnapshot() = 0;
  // Of a restored machine whose guest stands still at the bell: from now on it stands where its
  // snapshot was taken, in every respect as one that was restored anew, but within the same engine,
  // which knows the guest's code by now. An error: the machine is unusable.
  virtual absl::Status Rewind() = 0;
  // False also when it would take more memory than it saves time, and with an engine that cannot.
  virtual bool CanRewind() const = 0;
  // Kills the engine, which has nothing to save, and returns when it is gone. In any state, any
  // number of times.
  virtual void Stop() = 0;

  // The longest turn of a vCPU while others wait, in guest time; zero: unbounded. While the guest
  // stands still.
  virtual absl::Status SetVcpuTurn(absl::Duration turn) = 0;
  // False when the engine can neither bound them nor keep a rendezvous.
  virtual bool HasBoundedTurns() const = 0;
  // kRendezvous comes at the end of the first turn at or after this guest time, at the same
  // instruction in equal runs; infinite: not. Replaces the one that was set before. While the guest
  // stands still, which it cannot observe.
  virtual absl::Status SetRendezvous(absl::Duration guest_time) = 0;
  // Guest time since the boot, as the engine last published it; nullopt when it has not, or never
  // does. The guest cannot observe the call.
  virtual std::optional<absl::Duration> GuestTime() const = 0;
  // Stops the guest for good and returns where each vCPU stands; empty when the engine does not
  // report it within some seconds. At a rendezvous the guest executes no further instruction.
  virtual std::vector<v1::VcpuState> HaltAndLook() = 0;

  virtual GuestMemory& Memory() = 0;
  virtual const Console& GuestConsole() const = 0;
  // What users should know of this engine; empty when there is nothing.
  virtual std::string EngineNote() const = 0;
  // What the engine itself printed (its errors): the last 8 KiB, printable.
  virtual std::string EngineOutput() = 0;
  // "QEMU 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"
  virtual const std::string& EngineVersion() const = 0;
};

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_MACHINE_H_
