// SPDX-License-Identifier: Apache-2.0
//
// /init of the VM tests of hostile guests: breaks one rule. The bundle is a text that names the
// fault. "pattern" breaks none: it checks where RAM is (memory_vm_test.cc).
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <unistd.h>

static volatile uint8_t* window;
static unsigned long window_size;

static void Doorbell(uint32_t reason) {
  *(volatile uint32_t*)(window + 136) = reason;
  ioperm(0x505, 1, 1);
  outb(1, 0x505);
}

static void MapWindow(void) {
  char line[4096] = {0};
  unsigned long address = 0;
  int fd = open("/proc/cmdline", O_RDONLY);
  if (fd < 0 || read(fd, line, sizeof(line) - 1) < 0) return;
  const char* at = strstr(line, "ktstr.window=");
  if (!at || sscanf(at, "ktstr.window=%lx,%lx", &address, &window_size) != 2) return;
  int mem = open("/dev/mem", O_RDWR);
  window = mmap(0, window_size, PROT_READ | PROT_WRITE, MAP_SHARED, mem, (off_t)address);
}

// At both ends of the 2 MiB at `address`: checks the host's word of this round, then writes its
// complement.
static int SwapWords(unsigned long address, uint64_t round) {
  const unsigned long size = 2UL << 20;
  int mem = open("/dev/mem", O_RDWR);
  volatile uint8_t* at = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, mem, (off_t)address);
  close(mem);
  if (at == MAP_FAILED) return 0;
  int found = 1;
  for (unsigned long offset = 0; offset < size; offset += size - sizeof(uint64_t)) {
    volatile uint64_t* word = (volatile uint64_t*)(at + offset);
    found &= *word == ((address + offset) ^ (0x5a17c0de5a17c0deULL + round));
    *word = ~*word;
  }
  munmap((void*)at, size);
  return found;
}

// Swaps the words at each address that the command line names; false when a word was wrong.
static int SwapAllWords(uint64_t round) {
  char line[4096] = {0};
  int fd = open("/proc/cmdline", O_RDONLY);
  if (fd < 0 || read(fd, line, sizeof(line) - 1) < 0) return 0;
  close(fd);
  int found = 1;
  unsigned long address;
  for (const char* at = line; (at = strstr(at, "pattern=")) != NULL; at += 8) {
    found &= sscanf(at, "pattern=%lx", &address) == 1 && SwapWords(address, round);
  }
  return found;
}

static void FloodConsole(void) {
  char line[4096];
  memset(line, 'x', sizeof(line));
  int fd = open("/dev/console", O_WRONLY);
  for (;;) {
    if (write(fd, line, sizeof(line)) < 0) return;
  }
}

int main(void) {
  mount("proc", "/proc", "proc", 0, "");
  mount("devtmpfs", "/dev", "devtmpfs", 0, "");
  MapWindow();
  if (!window || window == MAP_FAILED) return 9;
  const char* fault = (const char*)window + (2 << 20);
  if (!strncmp(fault, "return", 6)) return 0;
  if (!strncmp(fault, "console", 7)) FloodConsole();
  if (!strncmp(fault, "ring", 4)) {
    for (unsigned i = 4096; i < 8192; ++i) window[i] = (uint8_t)(i * 131);
    *(volatile uint64_t*)(window + 128) = 4096;
    for (;;) pause();
  }
  if (!strncmp(fault, "doorbell", 8)) Doorbell(77);
  if (!strncmp(fault, "ready", 5)) {
    Doorbell(1);
    Doorbell(1);
  }
  if (!strncmp(fault, "pattern", 7)) {
    Doorbell(SwapAllWords(1) ? 1 : 66);
    Doorbell(SwapAllWords(2) ? 3 : 67);
  }
  if (!strncmp(fault, "spin", 4)) {
    for (volatile unsigned turns = 0;;) turns = turns + 1;
  }
  if (!strncmp(fault, "reset", 5)) reboot(RB_AUTOBOOT);
  if (!strncmp(fault, "hang", 4)) {
    for (;;) pause();
  }
  reboot(RB_POWER_OFF);
  return 0;
}
