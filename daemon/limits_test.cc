// SPDX-License-Identifier: Apache-2.0
//
// Every row of scenario/limits.h, at the limit and one beyond.
#include "scenario/limits.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/protocol.h"
#include "base/sha256.h"
#include "base/string_view.h"
#include "cache/kernel_source.h"
#include "daemon/caller.h"
#include "daemon/run_manager.h"
#include "daemon/spec_check.h"
#include "daemon/testing/fake_executor.h"
#include "daemon/testing/server_fixture.h"

namespace ktstr::daemon {
namespace {

using testing::HasSubstr;

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

v1::RunSpec GoodSpec() {
  v1::RunSpec spec;
  const std::string text = absl::StrCat(
      "scenario { name: 'steady' duration_ms: 60000 scheduler { name: 'scx_mine' }"
      "  step { cgroup { name: 'a' work { workers: 1 spin_wait {} } } } }"
      "files { guest_path: 'bin/scx_mine' executable: true size: 10 sha256: '",
      std::string(64, 'a'), "' }",
      "files { guest_path: 'bin/scx_delay' executable: true size: 10 sha256: '",
      std::string(64, 'b'), "' } scheduler_path: 'bin/scx_mine'");
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec));
  return spec;
}

// Sets one number of a good spec; what CheckRunSpec says of it.
template <typename Set>
std::function<absl::Status(uint64_t)> OfSpec(Set set) {
  return [set](uint64_t value) {
    v1::RunSpec spec = GoodSpec();
    set(&spec, value);
    return CheckRunSpec(spec);
  };
}

template <typename Set>
std::function<absl::Status(uint64_t)> OfScenario(Set set) {
  return OfSpec([set](v1::RunSpec* spec, uint64_t value) { set(spec->mutable_scenario(), value); });
}

template <typename Set>
std::function<absl::Status(uint64_t)> OfCgroup(Set set) {
  return OfScenario([set](v1::Scenario* scenario, uint64_t value) {
    set(scenario->mutable_step(0)->mutable_cgroup(0), value);
  });
}

template <typename Set>
std::function<absl::Status(uint64_t)> OfDelayPoint(Set set) {
  return OfScenario([set](v1::Scenario* scenario, uint64_t value) {
    v1::Perturb::DelayPoint* point = scenario->mutable_perturb()->add_delay_point();
    point->set_callback("enqueue");
    set(point, value);
  });
}

std::string Text(uint64_t bytes, char c = 'x') { return std::string(bytes, c); }

// A relative path of that many bytes.
std::string PathOf(uint64_t bytes) {
  std::string path = Text(bytes, 'p');
  for (uint64_t i = 200; i < bytes; i += 201) path[i] = '/';
  return path;
}

void AddFile(v1::RunSpec* spec, const std::string& path) {
  v1::FileRef* file = spec->add_files();
  *file = spec->files(0);
  file->set_guest_path(path);
}

void AddWork(v1::Cgroup* cgroup, uint64_t workers) {
  v1::Work* work = cgroup->add_work();
  work->mutable_spin_wait();
  work->set_workers(static_cast<uint32_t>(workers));
}

class LimitsTest : public ServerTest {
 protected:
  using Try = std::function<absl::Status(uint64_t)>;

  void Add(const std::string& field, const std::string& unit, Try attempt) {
    const bool fresh = tries_.emplace(std::make_pair(field, unit), std::move(attempt)).second;
    EXPECT_TRUE(fresh) << field << ", " << unit;
  }
  void AddScenarioRows();
  void AddSpecRows();
  void AddCallRows();
  void AddKernelRows();
  absl::Status Import(const std::vector<v1::ImportKernelRequest>& requests) {
    grpc::ClientContext context;
    const auto stream = client_->ImportKernel(&context);
    for (const v1::ImportKernelRequest& request : requests) {
      if (!stream->Write(request)) break;
    }
    stream->WritesDone();
    v1::ImportKernelResponse response;
    while (stream->Read(&response)) {
    }
    return FromGrpc(stream->Finish());
  }
  absl::Status FollowRuns(uint64_t count);

  TestClient client_{server_.options().socket};
  std::map<std::pair<std::string, std::string>, Try> tries_;
};

void LimitsTest::AddScenarioRows() {
  Add("Scenario.name", "bytes", OfScenario([](auto* s, uint64_t n) { s->set_name(Text(n)); }));
  Add("Scenario.description", "bytes",
      OfScenario([](auto* s, uint64_t n) { s->set_description(Text(n)); }));
  Add("Scenario.vcpu_mips", "", OfScenario([](auto* s, uint64_t n) { s->set_vcpu_mips(n); }));
  Add("Scenario.memory_mb", "", OfScenario([](auto* s, uint64_t n) { s->set_memory_mb(n); }));
  Add("Scenario.duration_ms", "", OfScenario([](auto* s, uint64_t n) { s->set_duration_ms(n); }));
  Add("Scenario.step", "steps", OfScenario([](auto* s, uint64_t n) {
        while (s->step_size() < static_cast<int>(n)) s->add_step();
      }));
  Add("Scenario.seed_fork", "seed forks", OfScenario([](auto* s, uint64_t n) {
        for (uint64_t i = 1; i <= n; ++i) s->add_seed_fork()->set_at_ms(i);
      }));
  Add("Step.cgroup", "cgroups in all steps", OfScenario([](auto* s, uint64_t n) {
        for (uint64_t i = 1; i < n; ++i)
          s->mutable_step(0)->add_cgroup()->set_name(absl::StrCat(i));
      }));
  Add("Cgroup.name", "bytes", OfCgroup([](auto* c, uint64_t n) {
        std::string name = Text(n, 'n');
        for (uint64_t i = 60; i < n; i += 61) name[i] = '/';
        c->set_name(name);
      }));
  Add("Cgroup.weight", "", OfCgroup([](auto* c, uint64_t n) { c->set_weight(n); }));
  Add("Cgroup.work", "work entries in all", OfCgroup([](auto* c, uint64_t n) {
        c->clear_work();
        for (uint64_t i = 0; i < n; ++i) AddWork(c, 1);
      }));
  Add("Cpuset.Exact.cpus", "bytes", OfCgroup([](auto* c, uint64_t n) {
        c->mutable_cpuset()->mutable_exact()->set_cpus(Text(n - 1, '0') + "1");
      }));
  Add("Work.workers", "", OfCgroup([](auto* c, uint64_t n) {
        c->mutable_work(0)->set_workers(static_cast<uint32_t>(n));
      }));
  Add("Work.workers", "workers in all", OfCgroup([](auto* c, uint64_t n) {
        c->clear_work();
        for (; n > 1024; n -= 1024) AddWork(c, 1024);
        AddWork(c, n);
      }));
  Add("Scheduler.name", "bytes",
      OfScenario([](auto* s, uint64_t n) { s->mutable_scheduler()->set_name(Text(n)); }));
  Add("Scheduler.args", "arguments", OfScenario([](auto* s, uint64_t n) {
        for (uint64_t i = 0; i < n; ++i) s->mutable_scheduler()->add_args();
      }));
  Add("Scheduler.args", "bytes together", OfScenario([](auto* s, uint64_t n) {
        s->mutable_scheduler()->add_args(Text(1000));
        s->mutable_scheduler()->add_args(Text(n - 1002));
      }));
  Add("Scheduler.attach_timeout_ms", "",
      OfScenario([](auto* s, uint64_t n) { s->mutable_scheduler()->set_attach_timeout_ms(n); }));
  Add("Scheduler.restart_timeout_ms", "",
      OfScenario([](auto* s, uint64_t n) { s->mutable_scheduler()->set_restart_timeout_ms(n); }));
  Add("Perturb.intensity", "",
      OfScenario([](auto* s, uint64_t n) { s->mutable_perturb()->set_intensity(n); }));
  Add("Perturb.Pct.change_points", "", OfScenario([](auto* s, uint64_t n) {
        s->mutable_perturb()->mutable_pct()->set_change_points(n);
      }));
  Add("Perturb.delay_point", "delay points", OfScenario([](auto* s, uint64_t n) {
        for (uint64_t i = 0; i < n; ++i)
          s->mutable_perturb()->add_delay_point()->set_callback("enqueue");
      }));
  Add("Perturb.DelayPoint.callback", "bytes",
      OfDelayPoint([](auto* p, uint64_t n) { p->set_callback(Text(n)); }));
  Add("Perturb.DelayPoint.max_us", "", OfDelayPoint([](auto* p, uint64_t n) { p->set_max_us(n); }));
  Add("Perturb.DelayPoint.one_in", "", OfDelayPoint([](auto* p, uint64_t n) { p->set_one_in(n); }));
  Add("SeedFork.at_ms", "",
      OfScenario([](auto* s, uint64_t n) { s->add_seed_fork()->set_at_ms(n); }));
}

void LimitsTest::AddSpecRows() {
  Add("RunSpec.kernel", "bytes", OfSpec([](auto* s, uint64_t n) { s->set_kernel(Text(n, '7')); }));
  Add("RunSpec.files", "files", OfSpec([](auto* s, uint64_t n) {
        while (s->files_size() < static_cast<int>(n))
          AddFile(s, absl::StrCat("f", s->files_size()));
      }));
  Add("RunSpec.files", "bytes together", [](uint64_t n) {
    v1::RunSpec spec = GoodSpec();
    spec.clear_files();
    std::map<std::string, uint64_t> sizes;
    for (const char digit : {'a', 'b', 'c'}) {
      const uint64_t size = std::min(n, scenario::LimitOf("FileRef.size").max);
      n -= size;
      v1::FileRef* file = spec.add_files();
      file->set_sha256(Text(64, digit));
      file->set_size(size);
      sizes[file->sha256()] = size;
    }
    return CheckFileSizes(spec, sizes);
  });
  Add("RunSpec.timeout_ms", "", OfSpec([](auto* s, uint64_t n) { s->set_timeout_ms(n); }));
  Add("RunSpec.vcpu_turn_us", "", OfSpec([](auto* s, uint64_t n) { s->set_vcpu_turn_us(n); }));
  Add("RunSpec.reproduction", "bytes", OfSpec([](auto* s, uint64_t n) {
        s->mutable_reproduction()->set_scheduler(Text(n - 4));  // Tag, and a length of 3 bytes.
      }));
  Add("FileRef.guest_path", "bytes", OfSpec([](auto* s, uint64_t n) { AddFile(s, PathOf(n)); }));
  Add("FileRef.guest_path", "components", OfSpec([](auto* s, uint64_t n) {
        std::string path = "p";
        for (uint64_t i = 1; i < n; ++i) path += "/p";
        AddFile(s, path);
      }));
  Add("FileRef.guest_path", "bytes of a component",
      OfSpec([](auto* s, uint64_t n) { AddFile(s, Text(n, 'p')); }));
  Add("FileRef.size", "bytes",
      OfSpec([](auto* s, uint64_t n) { s->mutable_files(0)->set_size(n); }));
  Add("Reproduction.scheduler_args", "arguments", OfSpec([](auto* s, uint64_t n) {
        for (uint64_t i = 0; i < n; ++i) s->mutable_reproduction()->add_scheduler_args();
      }));
  Add("Reproduction.seed_forks", "seed forks", OfSpec([](auto* s, uint64_t n) {
        for (uint64_t i = 0; i < n; ++i) s->mutable_reproduction()->add_seed_forks("1ms:1");
      }));
  Add("Reproduction.sets", "overrides", OfSpec([](auto* s, uint64_t n) {
        for (uint64_t i = 0; i < n; ++i) s->mutable_reproduction()->add_sets("checks.isolation=1");
      }));
}

// Of a store with that many runs, all of which one reader asks for.
absl::Status LimitsTest::FollowRuns(uint64_t count) {
  const base::TempDir dir = *base::TempDir::Make("limits");
  const std::string path = dir.path() + "/runs.db";
  EXPECT_TRUE(RunStore::Open(path).ok());  // Makes the tables.
  sqlite3* db = nullptr;
  EXPECT_EQ(sqlite3_open(path.c_str(), &db), SQLITE_OK);
  const std::string insert = absl::StrCat(
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ", count,
      ") INSERT INTO runs(uid, state, scenario, submitted_ms, spec, record)"
      " SELECT ",
      getuid(), ", 2, 's', 1, x'', x'' FROM n");
  EXPECT_EQ(sqlite3_exec(db, insert.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
      << sqlite3_errmsg(db);
  sqlite3_close(db);
  const auto store = *RunStore::Open(path);
  FakeExecutor executor;
  RecordFiles files(dir.path());
  const auto manager = *RunManager::Create(RunManagerOptions(), store.get(), &executor, &files);
  RunManager::WatchSet runs(manager.get());
  for (uint64_t i = 1; i <= count; ++i)
    runs.Add(CallerOf(getuid()), RunId(static_cast<int64_t>(i)), 0);
  const auto steps = runs.Next(absl::ZeroDuration());
  EXPECT_TRUE(steps.ok()) << steps.status();
  for (const RunManager::WatchSet::Step& step : *steps) {
    if (!step.events.ok()) return step.events.status();
  }
  return absl::OkStatus();
}

void LimitsTest::AddCallRows() {
  std::string id;
  ASSERT_TRUE(client_.Submit(FakeSpec("pass"), &id).ok());
  Add("", "bytes", [this](uint64_t n) {
    grpc::ClientContext context;
    v1::CancelRunRequest request;
    request.set_reason(Text(n - 5));  // Tag, and a length of 4 bytes.
    v1::CancelRunResponse response;
    const grpc::Status status = client_->CancelRun(&context, request, &response);
    // It came through, and the reason is too long.
    return status.error_code() == grpc::StatusCode::INVALID_ARGUMENT ? absl::OkStatus()
                                                                     : FromGrpc(status);
  });
  Add("HandshakeRequest.client_version", "bytes", [this](uint64_t n) {
    grpc::ClientContext context;
    v1::HandshakeRequest request;
    request.set_protocol_version(base::kProtocolVersion);
    request.set_client_version(Text(n));
    v1::HandshakeResponse response;
    return FromGrpc(client_->Handshake(&context, request, &response));
  });
  Add("FindMissingBlobsRequest.sha256", "names", [this](uint64_t n) {
    grpc::ClientContext context;
    v1::FindMissingBlobsRequest request;
    for (uint64_t i = 0; i < n; ++i) request.add_sha256(Text(64, 'a'));
    v1::FindMissingBlobsResponse response;
    return FromGrpc(client_->FindMissingBlobs(&context, request, &response));
  });
  const auto put = [this](uint64_t size, const std::string& data) {
    grpc::ClientContext context;
    v1::PutBlobResponse response;
    const auto writer = client_->PutBlob(&context, &response);
    v1::PutBlobRequest piece;
    piece.set_data(data);
    piece.set_sha256(base::Sha256Hex(data));
    piece.set_size(size);
    writer->Write(piece);
    writer->WritesDone();
    return FromGrpc(writer->Finish());
  };
  Add("PutBlobRequest.size", "bytes", [put](uint64_t n) { return put(n, "less"); });
  Add("PutBlobRequest.data", "bytes", [put](uint64_t n) { return put(n, Text(n)); });
  Add("WatchRunsRequest.run_id", "runs of one stream",
      [this](uint64_t n) { return FollowRuns(n); });
  Add("CancelRunRequest.reason", "bytes", [this, id](uint64_t n) {
    grpc::ClientContext context;
    v1::CancelRunRequest request;
    request.set_run_id(id);
    request.set_reason(Text(n));
    v1::CancelRunResponse response;
    return FromGrpc(client_->CancelRun(&context, request, &response));
  });
}

void LimitsTest::AddKernelRows() {
  const auto file = [](uint64_t size, const std::string& data) {
    v1::ImportKernelRequest request;
    request.mutable_header()->set_file_name("file");
    request.mutable_header()->set_size(size);
    request.set_data(data);
    return request;
  };
  Add("ImportKernelRequest.header", "files", [this, file](uint64_t n) {
    return Import(std::vector<v1::ImportKernelRequest>(n, file(1, "x")));
  });
  Add("ImportKernelRequest.data", "bytes",
      [this, file](uint64_t n) { return Import({file(n, Text(n))}); });
  Add("ImportKernelRequest.ImportHeader.file_name", "bytes", [this, file](uint64_t n) {
    v1::ImportKernelRequest request = file(1, "x");
    request.mutable_header()->set_file_name(Text(n));
    return Import({request});
  });
  Add("ImportKernelRequest.ImportHeader.size", "bytes together", [this, file](uint64_t n) {
    return Import({file(1, "x"), file(n - 1, "x")});
  });
  Add("ImportKernelRequest.ImportHeader.config", "bytes", [this, file](uint64_t n) {
    v1::ImportKernelRequest request = file(1, "x");
    request.mutable_header()->set_config("CONFIG_" + Text(n - 7));
    return Import({request});
  });
  const auto check = [](const std::string& text, const std::vector<std::string>& suites) {
    const auto source = cache::FindKernelSource(text);
    if (!source.ok()) return source.status();
    return (*source)->Check({.what = cache::WithoutPrefix(**source, text), .suites = suites});
  };
  Add("FetchKernelRequest.source", "bytes",
      [check](uint64_t n) { return check("deb:" + Text(n - 4), {}); });
  Add("FetchKernelRequest.suites", "suites",
      [check](uint64_t n) { return check("deb:linux-image", std::vector<std::string>(n, "sid")); });
  Add("FetchKernelRequest.suites", "bytes of a suite",
      [check](uint64_t n) { return check("deb:linux-image", {Text(n)}); });
}

TEST(Limits, AreOfFieldsThatExist) {
  v1::SubmitRunRequest::descriptor();  // Its file, and those that it needs, are in the pool.
  const auto* pool = google::protobuf::DescriptorPool::generated_pool();
  for (const scenario::Limit& limit : scenario::kLimits) {
    if (limit.field.empty()) continue;
    EXPECT_NE(pool->FindFieldByName("ktstr.v1." + std::string(limit.field)), nullptr)
        << limit.field;
  }
}

TEST_F(LimitsTest, EveryLimitIsTakenAndRefusedOneBeyond) {
  Start();
  AddScenarioRows();
  AddSpecRows();
  AddCallRows();
  AddKernelRows();
  for (const scenario::Limit& limit : scenario::kLimits) {
    SCOPED_TRACE(absl::StrCat(std::string(limit.field), " ", std::string(limit.unit)));
    const auto attempt = tries_.find({std::string(limit.field), std::string(limit.unit)});
    ASSERT_TRUE(attempt != tries_.end()) << "the row is not tested";
    const absl::Status at_limit = attempt->second(limit.max);
    // These send a part of a file, or no kernel: what is wrong is found after all limits.
    if (absl::StartsWith(base::ToAbsl(limit.field), "ImportKernelRequest") ||
        limit.field == "PutBlobRequest.size") {
      EXPECT_FALSE(absl::StrContains(at_limit.message(), "at most")) << at_limit;
    } else {
      EXPECT_EQ(at_limit, absl::OkStatus());
    }
    const absl::Status beyond = attempt->second(limit.max + 1);
    const bool exhausted = limit.field.empty() || limit.field == "WatchRunsRequest.run_id";
    EXPECT_EQ(beyond.code(),
              exhausted ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kInvalidArgument)
        << beyond;
    const std::string message(beyond.message());
    EXPECT_THAT(message, HasSubstr(std::string(limit.field.substr(limit.field.rfind('.') + 1))));
    EXPECT_THAT(message, HasSubstr(absl::StrCat(limit.max + 1)));
    EXPECT_THAT(message, HasSubstr(absl::StrCat(limit.max)));
    tries_.erase(attempt);
  }
  for (const auto& [row, attempt] : tries_) ADD_FAILURE() << row.first << ": no such row";
}

}  // namespace
}  // namespace ktstr::daemon
