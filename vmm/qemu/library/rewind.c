// SPDX-License-Identifier: Apache-2.0
//
// A rewound machine stands where its snapshot was taken, as one that was restored anew, but it
// keeps the translations of the guest's code, which cost a short run a third of its time.
//
// QEMU drops all translations when their buffer is full, and then goes on with another vCPU. Runs
// are equal only while that happens in none of them.
//
// KTSTR_STATE_FD names the snapshot's device state. When something fails, the machine is unusable:
// ktstr-vm ends it.
//
// Everything that the guest's execution depends on is put back: the devices and vCPUs (reset, then
// the snapshot's device state, as QEMU's own loadvm does it), RAM (private mappings of the
// snapshot's files: pages that were written are dropped), the emulated TLBs, whose size QEMU
// adapts, the order of the vCPUs and the state of their turns (vcpu_turns.c). Of the translations
// those are dropped whose page was written.

#define _GNU_SOURCE
#include "vmm/qemu/library/rewind.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/qemu/library/page.h"
#include "vmm/qemu/library/qemu.h"
#include "vmm/qemu/library/vcpu_turns.h"

enum { kPage = 4096, kEntriesAtOnce = 8192 };

// A run of 2 s needs some 30 MiB at first and 3 MiB in addition when it is repeated with another
// seed. More of them in a machine that waits would cost its host too much memory.
enum { kMaxTranslations = 128 << 20 };

// Documentation/admin-guide/mm/pagemap.rst.
static const uint64_t kPresent = UINT64_C(1) << 63;
static const uint64_t kSwapped = UINT64_C(1) << 62;
static const uint64_t kOfFile = UINT64_C(1) << 61;

static bool HasSymbols(void) {
  return ((bql_lock_impl && bql_unlock) ||
          (qemu_mutex_lock_iothread_impl && qemu_mutex_unlock_iothread)) &&
         run_on_cpu && qemu_system_reset && tlb_destroy && tlb_init && tb_flush && runstate_check &&
         tcg_code_size && tcg_code_capacity && tb_invalidate_phys_range && qemu_ram_foreach_block &&
         qemu_ram_get_fd && qemu_ram_get_host_addr && qemu_ram_get_offset &&
         qemu_ram_get_used_length && qio_channel_file_new_fd && qemu_file_new_input &&
         qemu_loadvm_state && qemu_fclose && migration_incoming_state_destroy &&
         yank_register_instance && qemu_get_cpu;
}

static void LockQemu(void) {
  if (bql_lock_impl != NULL) {
    bql_lock_impl(__FILE__, __LINE__);
  } else {
    qemu_mutex_lock_iothread_impl(__FILE__, __LINE__);
  }
}

static void UnlockQemu(void) {
  if (bql_unlock != NULL) {
    bql_unlock();
  } else {
    qemu_mutex_unlock_iothread();
  }
}

// Pages [begin, end) of the block go back to what their file holds.
static int DropPages(void* block, uint64_t begin, uint64_t end) {
  const uint64_t offset = qemu_ram_get_offset(block) + begin * kPage;
  const uint64_t size = (end - begin) * kPage;
  tb_invalidate_phys_range(offset, icount_percpu_budget ? offset + size - 1 : offset + size);
  return madvise((char*)qemu_ram_get_host_addr(block) + begin * kPage, size, MADV_DONTNEED);
}

static int DropWritten(void* block, void* pagemap) {
  if (qemu_ram_get_fd(block) < 0) return 0;  // The device state holds it.
  const uint64_t pages = qemu_ram_get_used_length(block) / kPage;
  const uint64_t first = (uint64_t)qemu_ram_get_host_addr(block) / kPage;
  static uint64_t entries[kEntriesAtOnce];
  uint64_t begin = UINT64_MAX;  // Of a row of written pages.
  for (uint64_t page = 0; page < pages;) {
    const uint64_t count = pages - page < kEntriesAtOnce ? pages - page : kEntriesAtOnce;
    const ssize_t got = pread(*(int*)pagemap, entries, count * sizeof(entries[0]),
                              (off_t)((first + page) * sizeof(entries[0])));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return 1;
    const uint64_t read = (uint64_t)got / sizeof(entries[0]);
    for (uint64_t i = 0; i < read; ++i) {
      const bool written = (entries[i] & (kPresent | kSwapped)) != 0 && (entries[i] & kOfFile) == 0;
      if (written && begin == UINT64_MAX) begin = page + i;
      if (written || begin == UINT64_MAX) continue;
      if (DropPages(block, begin, page + i) != 0) return 1;
      begin = UINT64_MAX;
    }
    page += read;
  }
  return begin == UINT64_MAX ? 0 : DropPages(block, begin, pages);
}

static bool RestoreRam(void) {
  int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (pagemap < 0) return false;
  const bool dropped = qemu_ram_foreach_block(DropWritten, &pagemap) == 0;
  close(pagemap);
  return dropped;
}

// As when the vCPUs are made.
static void RestartTlbs(void) {
  for (int i = 0; qemu_get_cpu(i) != NULL; ++i) {
    tlb_destroy(qemu_get_cpu(i));
    tlb_init(qemu_get_cpu(i));
  }
}

// Code of QEMU that is replaced for a while.
struct Patch {
  void* function;
  uint8_t code[8];  // In its place; then what was there.
  size_t size;
};

static bool Swap(struct Patch* patch) {
  uint8_t* const at = patch->function;
  uint8_t* const page = (uint8_t*)((uintptr_t)at & ~(uintptr_t)(kPage - 1));
  const size_t size = (size_t)(at + patch->size - page);
  if (mprotect(page, size, PROT_READ | PROT_WRITE | PROT_EXEC) != 0) return false;
  for (size_t i = 0; i < patch->size; ++i) {
    const uint8_t was = at[i];
    at[i] = patch->code[i];
    patch->code[i] = was;
  }
  return mprotect(page, size, PROT_READ | PROT_EXEC) == 0;
}

static bool LoadDeviceState(void) {
  const char* state = getenv("KTSTR_STATE_FD");
  if (state == NULL || lseek(atoi(state), 0, SEEK_SET) != 0) return false;
  const int fd = dup(atoi(state));
  if (fd < 0) return false;
  void* const file = qemu_file_new_input(qio_channel_file_new_fd(fd));
  // As before migrate-incoming; its end unregisters it.
  const struct QemuYankInstance instance = {.type = kYankMigration};
  if (!yank_register_instance(&instance, NULL)) return false;
  const bool loaded = qemu_loadvm_state(file) == 0;
  migration_incoming_state_destroy();
  qemu_fclose(file);
  return loaded;
}

static void RestartTurns(void* cpu, union QemuWorkData data) {
  (void)cpu;
  (void)data;
  RestartVcpuTurns();
}

static bool ResetAndLoad(void) {
  qemu_system_reset(0);
  if (!RestoreRam()) return false;
  RestartTlbs();
  return LoadDeviceState();
}

static bool Rewind(void) {
  // QEMU flushes all translations when a vCPU's state is loaded (cpu_common_post_load).
  struct Patch flush = {.function = (void*)tb_flush, .code = {0xc3 /* ret */}, .size = 1};
  // A new process is reset and loaded in RUN_STATE_INMIGRATE, in which the reset does not copy the
  // kernel to RAM once more. Returns whether the argument is that state.
  struct Patch state = {.function = (void*)runstate_check,
                        .code = {0x83, 0xff, kRunStateInMigrate,  // cmp edi, …
                                 0x0f, 0x94, 0xc0,                // sete al
                                 0xc3},                           // ret
                        .size = 7};
  if (!Swap(&flush)) return false;
  if (!Swap(&state)) return false;
  const bool loaded = ResetAndLoad();
  if (!Swap(&state) || !Swap(&flush) || !loaded) return false;
  run_on_cpu(qemu_get_cpu(0), RestartTurns, (union QemuWorkData){.word = 0});
  return true;
}

void TellWhetherItRewinds(void) {
  struct Page* const page = SharedPage();
  if (page == NULL) return;
  page->can_rewind = HasSymbols() && tcg_code_size() <= kMaxTranslations &&
                     tcg_code_size() <= tcg_code_capacity() / 4;
}

void RewindIfAsked(void) {
  struct Page* const page = SharedPage();
  if (page == NULL || __atomic_load_n(&page->rewind, __ATOMIC_ACQUIRE) != kRewindAsked) return;
  bool done = false;
  if (HasSymbols()) {
    LockQemu();
    done = Rewind();
    UnlockQemu();
  }
  __atomic_store_n(&page->rewind, done ? kRewound : kCannotRewind, __ATOMIC_RELEASE);
}
