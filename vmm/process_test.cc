// SPDX-License-Identifier: Apache-2.0
// The real ktstr-vm with requests that it must refuse and with programs that are no engines.
#include <fcntl.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/subprocess.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scenario/topology.h"
#include "vmm/descriptors.h"
#include "vmm/engine.h"
#include "vmm/launch_plan.h"
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
    v1::Topology topology;
    topology.set_numa_nodes(1);
    topology.set_llcs(1);
    topology.set_cores_per_llc(1);
    topology.set_threads_per_core(1);
    LaunchRequest launch{*scenario::Topology::FromProto(topology)};
    launch.memory_mb = 256;
    launch.bundle_bytes = 4096;
    *start.mutable_plan() = *MakeLaunchPlan(launch, **FindEngine(v1::TCG));
    start.set_engine_path("/usr/bin/fake-engine");
    return request;
  }
  // A fake engine, executed through a descriptor of its own; it must be a program, not a script.
  v1::VmEnd Refusal(const v1::VmRequest& request, const std::string& engine = "/bin/true") {
    VmDriver driver = *VmDriver::Start();
    base::UniqueFd image = *base::MakeMemfd("image", 4096);
    base::UniqueFd program = *base::Open(engine, O_RDONLY);
    EXPECT_TRUE(driver
                    .Send(request, {{kKernelName, image.get()},
                                    {kBootImageName, image.get()},
                                    {kEngineName, program.get()}})
                    .ok());
    v1::VmRequest run;
    run.mutable_run()->set_timeout_ms(10000);
    // After a refusal the process may be gone already.
    static_cast<void>(driver.Send(run, {{kBundleName, image.get()}}));
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
  EXPECT_THAT(Refusal(Request(v1::KVM)).detail(),
              HasSubstr("the kvm engine is not in this version; use --engine tcg"));
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

TEST_F(ProcessTest, StartsDescriptorsHaveNames) {
  const base::UniqueFd image = *base::MakeMemfd("image", 4096);
  const auto refusal = [&](const v1::VmRequest& request, const std::vector<std::string>& names) {
    VmDriver driver = *VmDriver::Start();
    std::vector<NamedFd> fds;
    for (const std::string& name : names) fds.push_back({name, image.get()});
    EXPECT_TRUE(driver.Send(request, fds).ok());
    return End(&driver).detail();
  };
  const v1::VmRequest boot = Request();
  EXPECT_EQ(refusal(boot, {}), "descriptor \"kernel\" is missing");
  EXPECT_EQ(refusal(boot, {"kernel", "boot-image"}), "descriptor \"engine\" is missing");
  EXPECT_EQ(refusal(boot, {"initrd", "engine", "boot-image", "kernel"}),
            "unknown descriptors: \"initrd\"");
  EXPECT_EQ(refusal(boot, {"engine", "boot-image", "kernel", "state", "ram0"}),
            "unknown descriptors: \"ram0\", \"state\"");
  v1::VmRequest restore = Request();
  restore.mutable_start()->set_mode(v1::VmStart::RESTORE);
  EXPECT_EQ(refusal(restore, {"engine", "boot-image", "kernel", "ram0"}),
            "descriptor \"state\" is missing");
  EXPECT_EQ(refusal(restore, {"engine", "boot-image", "kernel", "state"}),
            "descriptor \"ram0\" is missing");
  EXPECT_EQ(refusal(restore, {"engine", "boot-image", "kernel", "state", "ram0", "ram2"}),
            "unknown descriptors: \"ram2\"");
}

TEST_F(ProcessTest, DescriptorsWithoutNamesAndTheSameNameTwice) {
  const base::UniqueFd image = *base::MakeMemfd("image", 4096);
  const auto refusal = [&](const std::vector<std::string>& names) {
    VmDriver driver = *VmDriver::Start();
    v1::VmRequest request = Request();
    for (const std::string& name : names) request.add_descriptors(name);
    EXPECT_TRUE(
        driver.SendBytes(request.SerializeAsString(), {image.get(), image.get(), image.get()})
            .ok());
    return End(&driver).detail();
  };
  EXPECT_EQ(refusal({}), "the message came with 3 descriptors, but names 0");
  EXPECT_EQ(refusal({"kernel", "boot-image", "kernel"}), "descriptor \"kernel\" comes twice");
}

TEST_F(ProcessTest, RunsDescriptorHasAName) {
  const base::UniqueFd image = *base::MakeMemfd("image", 4096);
  v1::VmRequest request = Request();
  request.mutable_start()->set_engine_version("QEMU 7.2.0");  // So ktstr-vm does not run it.
  const std::vector<NamedFd> start = {
      {kKernelName, image.get()}, {kBootImageName, image.get()}, {kEngineName, image.get()}};
  v1::VmRequest run;
  run.mutable_run()->set_timeout_ms(10000);
  const auto refusal = [&](const std::vector<NamedFd>& fds) {
    VmDriver driver = *VmDriver::Start();
    EXPECT_TRUE(driver.Send(request, start).ok());
    EXPECT_TRUE(driver.Send(run, fds).ok());
    return End(&driver).detail();
  };
  EXPECT_EQ(refusal({}), "descriptor \"bundle\" is missing");
  EXPECT_EQ(refusal({{"bundle", image.get()}, {"log", image.get()}}),
            "unknown descriptors: \"log\"");
}

TEST_F(ProcessTest, BadTopology) {
  v1::VmRequest request = Request();
  request.mutable_start()->mutable_plan()->mutable_topology()->set_llcs(0);
  EXPECT_THAT(Refusal(request).detail(), HasSubstr("llcs"));
}

TEST_F(ProcessTest, EngineThatIsNotQemu) {
  EXPECT_THAT(
      Refusal(Request(), "/bin/echo").detail(),
      HasSubstr("engine program /usr/bin/fake-engine: -version does not print a version of"));
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
