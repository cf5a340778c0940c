// SPDX-License-Identifier: Apache-2.0
//
// Finds a scheduler's program: a name with a "/" is a path, a bare name needs a search. Any thread.

#ifndef KTSTR_CLIENT_BUNDLE_DISCOVERY_H_
#define KTSTR_CLIENT_BUNDLE_DISCOVERY_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace ktstr::client {

struct DiscoveryPlaces {
  std::string variable;  // KTSTR_SCHEDULER; empty: not set, or a flag named the scheduler.
  std::string scenario_directory;  // Empty: a canned scenario.
  std::string working_directory;
  std::string program_directory;  // Of ktstrctl itself.
  std::string path;               // $PATH
};

// The directories to search for a bare name, in order, without duplicates.
std::vector<std::string> SearchDirectories(const DiscoveryPlaces& places);

// An absolute path of an executable regular file. InvalidArgument names every place searched.
absl::StatusOr<std::string> FindScheduler(const std::string& name, const DiscoveryPlaces& places);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_BUNDLE_DISCOVERY_H_
