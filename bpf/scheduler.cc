// SPDX-License-Identifier: Apache-2.0
#include "bpf/scheduler.h"

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <signal.h>
#include <sys/mman.h>
#include <sysexits.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "bpf/llc_map.h"

namespace ktstr::bpf {
namespace {

constexpr int kPollMs = 50;
constexpr unsigned kExitKindUnregistered = 64;      // SCX_EXIT_UNREG: user space detached it
constexpr unsigned kExitKindDisabledByKernel = 66;  // SCX_EXIT_UNREG_KERN

struct ObjectCloser {
  void operator()(bpf_object* object) const { bpf_object__close(object); }
};
using ObjectPtr = std::unique_ptr<bpf_object, ObjectCloser>;

sigset_t StopSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

bool Fail(const char* name, const char* what, int error) {
  std::fprintf(stderr, "%s: cannot %s: %s\n", name, what, std::strerror(error));
  return false;
}

bpf_map* FindMap(bpf_object* object, const char* name) {
  return bpf_object__find_map_by_name(object, name);
}

// Byte offset of ops.timeout_ms in the object's own struct sched_ext_ops; libbpf converts it to the
// kernel's.
long TimeoutOffset(bpf_object* object) {
  const btf* types = bpf_object__btf(object);
  const int id = btf__find_by_name_kind(types, "sched_ext_ops", BTF_KIND_STRUCT);
  if (id < 0) return -1;
  const btf_type* type = btf__type_by_id(types, id);
  const btf_member* member = btf_members(type);
  for (int i = 0; i < btf_vlen(type); ++i) {
    const char* name = btf__name_by_offset(types, member[i].name_off);
    if (std::strcmp(name, "timeout_ms") == 0) return btf_member_bit_offset(type, i) / 8;
  }
  return -1;
}

bool Configure(const SchedulerSpec& spec, bpf_object* object) {
  size_t size = 0;
  bpf_map* config_map = FindMap(object, ".rodata.config");
  void* config = config_map ? bpf_map__initial_value(config_map, &size) : nullptr;
  if (config == nullptr || size < sizeof(fifo_config)) {
    return Fail(spec.name, "find .rodata.config in its BPF object", ENOENT);
  }
  std::memcpy(config, &spec.config, sizeof(fifo_config));
  if (spec.watchdog_ms == 0) return true;

  bpf_map* ops_map = FindMap(object, "scheduler_ops");
  void* ops = ops_map ? bpf_map__initial_value(ops_map, &size) : nullptr;
  const long offset = TimeoutOffset(object);
  if (ops == nullptr || offset < 0 || offset + sizeof(uint32_t) > size) {
    return Fail(spec.name, "find scheduler_ops.timeout_ms in its BPF object", ENOENT);
  }
  std::memcpy(static_cast<char*>(ops) + offset, &spec.watchdog_ms, sizeof(uint32_t));
  return true;
}

// Collects libbpf's messages of an attempt when a second one may follow; null: they go to stderr.
std::string* held_messages = nullptr;

// Drops libbpf's notes on fields that the kernel does not have: every kernel but the latest lacks
// some.
int PrintWarnings(libbpf_print_level level, const char* format, va_list arguments) {
  if (level != LIBBPF_WARN) return 0;
  if (held_messages == nullptr) return std::vfprintf(stderr, format, arguments);
  char* text = nullptr;
  const int size = vasprintf(&text, format, arguments);
  if (size > 0) held_messages->append(text, static_cast<size_t>(size));
  if (size >= 0) std::free(text);
  return size;
}

// Null when the object cannot be loaded: `*error` is a negative errno, or 0 when the reason has
// been printed.
ObjectPtr OpenAndLoad(const SchedulerSpec& spec, std::string_view image, int* error) {
  *error = 0;
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = spec.name);
  ObjectPtr object(bpf_object__open_mem(image.data(), image.size(), &options));
  if (object == nullptr) {
    Fail(spec.name, "open its BPF object", errno);
    return nullptr;
  }
  if (!Configure(spec, object.get())) return nullptr;
  if (spec.before_load) spec.before_load(object.get());
  *error = bpf_object__load(object.get());
  return *error == 0 ? std::move(object) : nullptr;
}

// Loads the object for the latest kernels; where the kernel lacks one of its functions (libbpf
// returns EINVAL or ESRCH), the object for all kernels.
ObjectPtr OpenAndLoadWhatFits(const SchedulerSpec& spec) {
  std::string messages;
  held_messages = &messages;
  int error = 0;
  ObjectPtr object = OpenAndLoad(spec, spec.latest, &error);
  held_messages = nullptr;
  if (error == -EINVAL || error == -ESRCH) {
    object = OpenAndLoad(spec, spec.object, &error);
  } else {
    std::fputs(messages.c_str(), stderr);
  }
  if (error != 0) {
    Fail(spec.name, "load its BPF programs (the verifier's reason is above)", -error);
  }
  return object;
}

// The memory that the BPF side writes in ops.exit, mapped for reading.
class ExitRecord {
 public:
  explicit ExitRecord(bpf_object* object) {
    bpf_map* map = FindMap(object, ".data.exit");
    if (map == nullptr || bpf_map__value_size(map) < sizeof(fifo_exit)) return;
    void* data =
        mmap(nullptr, sizeof(fifo_exit), PROT_READ, MAP_SHARED, bpf_map__fd(map), /*offset=*/0);
    if (data != MAP_FAILED) data_ = static_cast<const fifo_exit*>(data);
  }
  ~ExitRecord() {
    if (data_ != nullptr) munmap(const_cast<fifo_exit*>(data_), sizeof(fifo_exit));
  }
  ExitRecord(const ExitRecord&) = delete;
  ExitRecord& operator=(const ExitRecord&) = delete;

  bool ok() const { return data_ != nullptr; }
  // 0 while the scheduler is enabled; the texts are complete once it is not 0.
  unsigned kind() const { return __atomic_load_n(&data_->kind, __ATOMIC_ACQUIRE); }
  const char* reason() const { return data_->reason; }
  const char* message() const { return data_->msg; }

 private:
  const fifo_exit* data_ = nullptr;
};

unsigned ElapsedMs(std::chrono::steady_clock::time_point since) {
  const auto elapsed = std::chrono::steady_clock::now() - since;
  return std::chrono::duration_cast<std::chrono::milliseconds>(elapsed).count();
}

// Returns when a stop signal comes or the kernel has disabled the scheduler. The oldest supported
// kernels send no event for the latter, so this function polls.
void WaitWhileEnabled(const SchedulerSpec& spec, const ExitRecord& record) {
  const auto start = std::chrono::steady_clock::now();
  while (record.kind() == 0 && !TakeStopSignal(spec.busy ? 0 : kPollMs)) {
    if (spec.while_enabled) spec.while_enabled(ElapsedMs(start));
  }
}

int ReportExit(const char* name, const ExitRecord& record) {
  if (record.kind() == kExitKindUnregistered) {
    std::fprintf(stderr, "%s: stopped: %s\n", name, record.reason());
    return EXIT_SUCCESS;
  }
  std::fprintf(stderr, "%s: ejected: %s%s%s (exit kind %u)\n", name, record.reason(),
               record.message()[0] != '\0' ? ": " : "", record.message(), record.kind());
  return EXIT_FAILURE;
}

}  // namespace

fifo_config MakeConfig(bool per_llc, unsigned slice_us) {
  fifo_config config = {};
  config.slice_ns = uint64_t{slice_us} * 1000;
  config.nr_llcs = 1;
  config.nr_cpus =
      static_cast<uint32_t>(std::clamp(sysconf(_SC_NPROCESSORS_CONF), 1L, long{FIFO_MAX_CPUS}));
  config.starve_cpu = -1;
  config.own_tgid = getpid();
  if (per_llc) {
    const std::vector<unsigned> llcs = ReadLlcMap("/sys", FIFO_MAX_CPUS, FIFO_MAX_LLCS);
    for (size_t cpu = 0; cpu < llcs.size(); ++cpu) {
      config.cpu_to_llc[cpu] = llcs[cpu];
      if (llcs[cpu] >= config.nr_llcs) config.nr_llcs = llcs[cpu] + 1;
    }
  }
  return config;
}

namespace {

// Once. `*kind`: of the exit, 0 when the scheduler was not enabled.
int RunOnce(const SchedulerSpec& spec, unsigned* kind) {
  ObjectPtr object = OpenAndLoadWhatFits(spec);
  if (object == nullptr) return EXIT_FAILURE;
  const ExitRecord record(object.get());
  bpf_map* ops = FindMap(object.get(), "scheduler_ops");
  if (!record.ok() || ops == nullptr) {
    Fail(spec.name, "find its exit record or ops in its BPF object", ENOENT);
    return EXIT_FAILURE;
  }
  bpf_link* link = bpf_map__attach_struct_ops(ops);
  if (link == nullptr) {
    Fail(spec.name, "attach to sched_ext (does another scheduler run?)", errno);
    return EXIT_FAILURE;
  }
  std::printf("%s: enabled\n", spec.name);
  std::fflush(stdout);
  WaitWhileEnabled(spec, record);
  // Returns when the kernel has disabled the scheduler, so that the record is complete afterwards.
  bpf_link__destroy(link);
  *kind = record.kind();
  return ReportExit(spec.name, record);
}

}  // namespace

int RunScheduler(const SchedulerSpec& spec) {
  libbpf_set_print(PrintWarnings);
  while (true) {
    unsigned kind = 0;
    const int code = RunOnce(spec, &kind);
    if (kind != kExitKindDisabledByKernel || spec.restart_after_ms < 0) return code;
    if (TakeStopSignal(spec.restart_after_ms)) return EXIT_SUCCESS;
    std::printf("%s: restarts\n", spec.name);
  }
}

void HoldStopSignals() {
  const sigset_t set = StopSignals();
  sigprocmask(SIG_BLOCK, &set, nullptr);
}

bool TakeStopSignal(int timeout_ms) {
  const sigset_t set = StopSignals();
  if (timeout_ms < 0) return sigwaitinfo(&set, nullptr) > 0;
  const timespec timeout = {.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1'000'000L};
  return sigtimedwait(&set, nullptr, &timeout) > 0;
}

}  // namespace ktstr::bpf
