// SPDX-License-Identifier: Apache-2.0
#include "bpf/scx_callbacks.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <optional>

namespace ktstr::bpf {
namespace {

constexpr char kValueType[] = "bpf_struct_ops_sched_ext_ops";
// Values of enum bpf_struct_ops_state in which a struct_ops map is in use.
constexpr uint32_t kStateInUse = 1;
constexpr uint32_t kStateReady = 3;

struct BtfFreer {
  void operator()(btf* types) const { btf__free(types); }
};

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }

 private:
  int fd_;
};

// Byte offset of a member, in the structure itself.
std::optional<size_t> MemberOffset(const btf* types, int structure, const std::string& name) {
  if (structure < 0) return std::nullopt;
  const btf_type* type = btf__type_by_id(types, static_cast<uint32_t>(structure));
  for (int i = 0; i < btf_vlen(type); ++i) {
    const btf_member& member = btf_members(type)[i];
    if (name == btf__name_by_offset(types, member.name_off)) {
      return btf_member_bit_offset(type, static_cast<uint32_t>(i)) / 8;
    }
  }
  return std::nullopt;
}

bool IsFunctionPointer(const btf* types, uint32_t id) {
  const btf_type* type = btf__type_by_id(types, id);
  return type != nullptr && btf_is_ptr(type) &&
         btf_is_func_proto(btf__type_by_id(types, type->type));
}

// The full name, from the program's BTF: bpf_prog_info cuts it to 15 characters.
std::string FunctionName(uint32_t program) {
  const Fd fd(bpf_prog_get_fd_by_id(program));
  bpf_func_info first = {};
  bpf_prog_info info = {};
  uint32_t size = sizeof(info);
  info.nr_func_info = 1;
  info.func_info_rec_size = sizeof(first);
  info.func_info = reinterpret_cast<uintptr_t>(&first);
  if (!fd.ok() || bpf_prog_get_info_by_fd(fd.get(), &info, &size) != 0) return "";
  const std::unique_ptr<btf, BtfFreer> types(btf__load_from_kernel_by_id(info.btf_id));
  if (types == nullptr) return "";
  const btf_type* type = btf__type_by_id(types.get(), first.type_id);
  return type == nullptr ? "" : btf__name_by_offset(types.get(), type->name_off);
}

// In the value of a struct_ops map, user space sees program ids where the kernel has pointers.
uint32_t ProgramOf(int map, size_t value_size, size_t state_offset, size_t offset) {
  std::vector<char> value(value_size);
  const uint32_t key = 0;
  if (offset + sizeof(uint64_t) > value_size || bpf_map_lookup_elem(map, &key, value.data()) != 0) {
    return 0;
  }
  uint32_t state = 0;
  std::memcpy(&state, value.data() + state_offset, sizeof(state));
  if (state != kStateInUse && state != kStateReady) return 0;
  uint64_t program = 0;
  std::memcpy(&program, value.data() + offset, sizeof(program));
  return static_cast<uint32_t>(program);
}

}  // namespace

bool IsCallback(const btf* types, const std::string& name) {
  const int ops = btf__find_by_name_kind(types, "sched_ext_ops", BTF_KIND_STRUCT);
  if (ops < 0) return false;
  const btf_type* type = btf__type_by_id(types, static_cast<uint32_t>(ops));
  for (int i = 0; i < btf_vlen(type); ++i) {
    const btf_member& member = btf_members(type)[i];
    if (name == btf__name_by_offset(types, member.name_off)) {
      return IsFunctionPointer(types, member.type);
    }
  }
  return false;
}

std::vector<Callback> FindCallbacks(const btf* types, const std::string& name) {
  std::vector<Callback> out;
  const int value = btf__find_by_name_kind(types, kValueType, BTF_KIND_STRUCT);
  const std::optional<size_t> data = MemberOffset(types, value, "data");
  const std::optional<size_t> member =
      MemberOffset(types, btf__find_by_name_kind(types, "sched_ext_ops", BTF_KIND_STRUCT), name);
  const std::optional<size_t> state = MemberOffset(
      types, btf__find_by_name_kind(types, "bpf_struct_ops_common_value", BTF_KIND_STRUCT),
      "state");
  if (!data || !member || !state || !IsCallback(types, name)) return out;
  for (uint32_t id = 0; bpf_map_get_next_id(id, &id) == 0;) {
    const Fd map(bpf_map_get_fd_by_id(id));
    bpf_map_info info = {};
    uint32_t size = sizeof(info);
    if (!map.ok() || bpf_map_get_info_by_fd(map.get(), &info, &size) != 0) continue;
    if (info.type != BPF_MAP_TYPE_STRUCT_OPS ||
        info.btf_vmlinux_value_type_id != static_cast<uint32_t>(value)) {
      continue;
    }
    const uint32_t program = ProgramOf(map.get(), info.value_size, *state, *data + *member);
    if (program != 0) out.push_back({program, FunctionName(program)});
  }
  return out;
}

}  // namespace ktstr::bpf
