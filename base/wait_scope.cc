// SPDX-License-Identifier: Apache-2.0
#include "base/wait_scope.h"

#include <utility>

namespace ktstr::base {
namespace {

thread_local WaitScope* current = nullptr;

}  // namespace

WaitScope::WaitScope(std::function<bool()> cancelled,
                     std::function<void(const std::string&)> waiting)
    : cancelled_(std::move(cancelled)),
      waiting_(std::move(waiting)),
      outer_(std::exchange(current, this)) {}

WaitScope::~WaitScope() { current = outer_; }

bool WaitScope::Cancelled() { return current != nullptr && current->cancelled_(); }

void WaitScope::Waiting(const std::string& text) {
  if (current != nullptr && current->waiting_) current->waiting_(text);
}

}  // namespace ktstr::base
