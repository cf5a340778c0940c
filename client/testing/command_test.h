// SPDX-License-Identifier: Apache-2.0
//
// Whole commands of ktstrctl in this process, against a FakeDaemon. One thread.

#ifndef KTSTR_CLIENT_TESTING_COMMAND_TEST_H_
#define KTSTR_CLIENT_TESTING_COMMAND_TEST_H_

#include <gtest/gtest.h>
#include <signal.h>

#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "client/command.h"
#include "client/testing/fake_daemon.h"

namespace ktstr::client {

class CommandTest : public ::testing::Test {
 protected:
  CommandTest() : dir_(*base::TempDir::Make("command")), socket_(dir_.path() + "/d.sock") {
    // Before any thread starts, so that only the command's descriptor gets the signal.
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    daemon_ = std::make_unique<FakeDaemon>(&service_, socket_);
  }
  // `ktstrctl --socket … ARGS`; its exit code. Fills out_ and err_.
  int Run(const std::vector<std::string>& args) {
    std::vector<std::string> words = {"ktstrctl", "--socket", socket_};
    words.insert(words.end(), args.begin(), args.end());
    std::vector<const char*> argv;
    for (const std::string& word : words) argv.push_back(word.c_str());
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const int code = Main(static_cast<int>(argv.size()), argv.data());
    out_ = testing::internal::GetCapturedStdout();
    err_ = testing::internal::GetCapturedStderr();
    return code;
  }
  static void FailWith(const std::string& kind, const std::string& message, v1::RunRecord* record) {
    record->set_verdict(v1::FAIL);
    v1::Finding* finding = record->add_findings();
    finding->set_kind(kind);
    finding->set_where("cgroup left");
    finding->set_message(message);
  }

  base::TempDir dir_;
  std::string socket_;
  FakeService service_;
  std::unique_ptr<FakeDaemon> daemon_;
  std::string out_, err_;
};

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_TESTING_COMMAND_TEST_H_
