// SPDX-License-Identifier: Apache-2.0
//
// The fallback that works without the window: few, short lines on the guest's console.
// "ktstr-agent: stage READY" marks progress, "ktstr-agent: error: TEXT" is the reason when the
// window cannot carry it. Any process of the agent.

#ifndef KTSTR_GUEST_CONSOLE_H_
#define KTSTR_GUEST_CONSOLE_H_

#include <string_view>

namespace ktstr::guest {

// Makes descriptors 0, 1, 2 of this process the console when the kernel could not (an initramfs has
// no /dev/console before devtmpfs is mounted). Without a console, lines are dropped.
void AttachConsole();

// Writes "ktstr-agent: TEXT\n" to descriptor 2; of a TEXT above 1000 bytes its beginning and
// its end, with the count of what is missing between them. Control characters become spaces.
void ConsoleLine(std::string_view text);

// Formats that line; separate for the test.
std::string_view ConsoleText(std::string_view text, char* buffer, size_t size);

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_CONSOLE_H_
