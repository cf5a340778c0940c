// SPDX-License-Identifier: Apache-2.0
// The real ktstr-vm with requests that it must refuse and with engines that are none.
#include <fcntl.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/subprocess.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/testing/vm_driver.h"

namespace ktstr::vmm {
namespace {

using ::testing::HasSubstr;
using testing::VmDriver;

constexpr absl::Duration kPatience = absl::Seconds(30);

class ProcessTest : public ::testing::Test {
 protected:
  static v1::VmRequest Request(v1::Engine engine = v1::TCG) {
    v1::VmRequest request;
    v1::VmStart& start = *request.mutable_start();
    start.set_engine(engine);
    start.mutable_topology()->set_numa_nodes(1);
    start.mutable_topology()->set_llcs(1);
    start.mutable_topology()->set_cores_per_llc(1);
    start.mutable_topology()->set_threads_per_core(1);
    start.set_memory_mb(256);
    start.set_bundle_capacity(4096);
    start.set_engine_path("/usr/bin/fake-engine");
    return request;
  }
  // A fake engine, executed through a descriptor of its own; it must be a program, not a script.
  v1::VmEnd Refusal(const v1::VmRequest& request, const std::string& engine = "/bin/true") {
    VmDriver driver = *VmDriver::Start();
    base::UniqueFd image = *base::MakeMemfd("image", 4096);
    base::UniqueFd program = *base::Open(engine, O_RDONLY);
    EXPECT_TRUE(driver.Send(request, {image.get(), image.get(), program.get()}).ok());
    v1::VmRequest run;
    run.mutable_run()->set_timeout_ms(10000);
    // A process that has refused already may be gone.
    static_cast<void>(driver.Send(run, {image.get()}));
    return End(&driver);
  }
  static v1::VmEnd End(VmDriver* driver) {
    auto end = driver->AwaitEnd(kPatience);
    EXPECT_TRUE(end.ok()) << end.status();
    auto status = driver->child().Wait(kPatience);
    EXPECT_TRUE(status.has_value() && status->Success());
    if (!end.ok()) return {};
    EXPECT_EQ(end->cause(), v1::VmEnd::ENGINE_FAILED);
    return *end;
  }
};

TEST_F(ProcessTest, KvmIsNotThereYet) {
  EXPECT_THAT(Refusal(Request(v1::KVM)).detail(), HasSubstr("engine KVM: this version runs"));
}

TEST_F(ProcessTest, FirstMessageMustBeAStart) {
  for (const std::string& bytes : {std::string("\xff\xff"), std::string("")}) {
    VmDriver driver = *VmDriver::Start();
    if (bytes.empty()) {
      v1::VmRequest stop;
      stop.mutable_stop();
      ASSERT_TRUE(driver.Send(stop).ok());
    } else {
      ASSERT_TRUE(driver.SendBytes(bytes).ok());
    }
    EXPECT_THAT(End(&driver).detail(), HasSubstr("no VmStart"));
  }
}

TEST_F(ProcessTest, DescriptorsAreCounted) {
  VmDriver driver = *VmDriver::Start();
  ASSERT_TRUE(driver.Send(Request()).ok());
  EXPECT_THAT(End(&driver).detail(), HasSubstr("0 descriptors instead of 3"));
}

TEST_F(ProcessTest, BadTopology) {
  v1::VmRequest request = Request();
  request.mutable_start()->mutable_topology()->set_llcs(0);
  EXPECT_THAT(Refusal(request).detail(), HasSubstr("llcs"));
}

TEST_F(ProcessTest, EngineThatIsNotQemu) {
  EXPECT_THAT(Refusal(Request(), "/bin/echo").detail(),
              HasSubstr("engine program /usr/bin/fake-engine: -version does not answer as QEMU"));
  EXPECT_THAT(Refusal(Request(), "/bin/false").detail(), HasSubstr("exited with 1"));
}

TEST_F(ProcessTest, EngineThatCannotBeExecuted) {
  EXPECT_THAT(Refusal(Request(), "/etc/passwd").detail(),
              HasSubstr("engine program /usr/bin/fake-engine cannot be executed"));
}

TEST_F(ProcessTest, QemusOwnErrorIsPassedOn) {
  auto qemu = base::FindProgram("qemu-system-x86_64");
  if (!qemu.ok()) GTEST_SKIP() << qemu.status();
  // A kernel of zeros.
  const v1::VmEnd end = Refusal(Request(), *qemu);
  EXPECT_THAT(end.detail(), HasSubstr(" did not start: qemu: "));
  EXPECT_THAT(end.engine_version(), HasSubstr("QEMU "));
}

TEST_F(ProcessTest, DaemonGoneBeforeTheStart) {
  VmDriver driver = *VmDriver::Start();
  driver.CloseControl();
  auto status = driver.child().Wait(kPatience);
  ASSERT_TRUE(status.has_value());
  EXPECT_EQ(status->code, 1);
}

}  // namespace
}  // namespace ktstr::vmm
