#include "log_checker.hpp"

#include "support/etcd_servers.hpp"
#include "support/eventually.hpp"
#include "support/process.hpp"
#include "support/programs.hpp"
#include "support/temp_dir.hpp"

#include <chrono>
#include <csignal>
#include <fstream>
#include <sstream>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

// What the manual says under "What a distributed lock cannot do".
namespace lockrun::testing {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

// The literal display of lockrun(1) with `words` in it, as somebody reads it.
std::string manual_example(const std::string& words)
{
  std::istringstream page(read_file(std::string(LOCKRUN_SOURCE_DIR) + "/man/lockrun.1"));
  std::string example;
  bool is_literal = false;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with(".Bd -literal")) {
      example.clear();
      is_literal = true;
    } else if (line == ".Ed" && is_literal) {
      if (example.find(words) != std::string::npos) { break; }
      is_literal = false;
    } else if (is_literal) {
      example += line + "\n";
    }
  }
  for (const auto& [roff, text] : {std::pair("\\-", "-"), std::pair("\\e", "\\"), std::pair("\\(aq", "'")}) {
    for (std::size_t at = 0; (at = example.find(roff, at)) != std::string::npos; ++at) {
      example.replace(at, std::string(roff).size(), text);
    }
  }
  return example;
}

// All processes of a call of lockrun's but the command, which runs on.
std::vector<pid_t> processes_but_the_command(pid_t lockrun)
{
  std::vector<pid_t> all{lockrun};
  std::ifstream children(fmt::format("/proc/{0}/task/{0}/children", lockrun));
  for (pid_t child = 0; children >> child;) { all.push_back(child); }
  return all;
}

constexpr const char* k_short = "6s";

// Stopped from now on until the end, or until they are told to go on.
class Stopped {
public:
  explicit Stopped(std::vector<pid_t> pids) : m_pids(std::move(pids))
  {
    for (const pid_t pid : m_pids) { EXPECT_EQ(::kill(pid, SIGSTOP), 0); }
  }
  ~Stopped() { go_on(); }
  Stopped(const Stopped&) = delete;
  Stopped& operator=(const Stopped&) = delete;

  void go_on()
  {
    for (const pid_t pid : m_pids) { (void)::kill(pid, SIGCONT); } // it may have been killed
    m_pids.clear();
  }

private:
  std::vector<pid_t> m_pids;
};

// It has ended, even if a parent that is stopped has not heard of it.
bool has_ended(pid_t pid)
{
  const std::string stat = read_file(fmt::format("/proc/{}/stat", pid));
  return stat.empty() || stat.find(") Z ") != std::string::npos;
}

class Fencing : public ::testing::Test {
protected:
  void SetUp() override
  {
    if (const auto reason = no_etcd()) { GTEST_SKIP() << *reason; }
    m_etcd.emplace();
  }

  // With words from the manual's mouth.
  std::vector<std::string> publish(const std::string& release) const
  {
    return {"env", "ETCDCTL_API=3", "ETCDCTL_ENDPOINTS=" + m_etcd->endpoints(), "release=" + release, "sh", "-c",
      "echo ready; read -r _; " + manual_example("create(") + "etcdctl put /unguarded $release; read -r _; exit 0"};
  }
  // Those who are to lose it have it for as long as even a busy machine can renew in time.
  std::vector<std::string> under_lock(std::vector<std::string> command, const char* ttl = "30s") const
  {
    command.insert(command.begin(), m_etcd->url("fence") + "?ttl=" + ttl);
    return lockrun_argv(command);
  }
  std::string value(const std::string& key) const { return m_etcd->etcdctl({"get", "--print-value-only", key}).out; }

  std::optional<EtcdServers> m_etcd;
};

Start with_pipes()
{
  Start start;
  start.in = k_pipe;
  start.out = k_pipe;
  return start;
}

TEST_F(Fencing, LetsTheHolderWriteToEtcd)
{
  Process holder(under_lock(publish("one")), with_pipes());
  holder.write("\n\n");
  EXPECT_EQ(holder.out_line(), "ready");
  EXPECT_EQ(holder.out_line(), "SUCCESS");
  EXPECT_EQ(holder.wait().status, exited(0));
  EXPECT_EQ(value("/config/active"), "one\n");
}

// Suspended, but for the command: nobody can end it, and in the end the lock is somebody else's.
TEST_F(Fencing, RefusesWhatALatecomerWritesToEtcd)
{
  Process latecomer(under_lock(publish("old"), k_short), with_pipes());
  EXPECT_EQ(latecomer.out_line(), "ready");
  const auto all = processes_but_the_command(latecomer.pid());
  ASSERT_THAT(all, SizeIs(3)); // and engine, and twin
  Stopped stopped(all);

  Process successor(under_lock(publish("new")), with_pipes());
  successor.write("\n\n");
  EXPECT_EQ(successor.out_line(), "ready");
  EXPECT_EQ(successor.out_line(), "SUCCESS");
  EXPECT_EQ(successor.wait().status, exited(0));

  latecomer.write("\n");
  EXPECT_EQ(latecomer.out_line(), "FAILURE");
  EXPECT_EQ(latecomer.out_line(), "OK"); // without the transaction
  EXPECT_EQ(value("/unguarded"), "old\n");
  EXPECT_EQ(value("/config/active"), "new\n");
  stopped.go_on();
  EXPECT_EQ(latecomer.wait().status, exited(76));
}

// The same with a register that compares tokens.
TEST_F(Fencing, RefusesOldTokens)
{
  const TempDir dir;
  const std::string log = (dir / "log").string();
  Start start;
  start.out = k_null;
  start.err = to_file(dir / "err");
  Process latecomer(under_lock({program("ticker"), log, "600000"}, k_short), start);
  ASSERT_TRUE(eventually([&] { return check_log(read_file(log)).sections == 1; })) << read_file(dir / "err");
  const auto all = processes_but_the_command(latecomer.pid());
  ASSERT_THAT(all, SizeIs(3));
  Stopped stopped(all);
  EXPECT_EQ(run_program(under_lock({program("ticker"), log, "1"}), start).status, exited(0));
  EXPECT_TRUE(eventually([&] { return check_log(read_file(log)).refused > 0; }));
  stopped.go_on();
  EXPECT_EQ(latecomer.wait().status, exited(76));

  const LogVerdict verdict = check_log(read_file(log));
  EXPECT_THAT(verdict.overlaps, SizeIs(1));
  EXPECT_THAT(verdict.stale, IsEmpty());
  EXPECT_THAT(verdict.inversions, IsEmpty());
  EXPECT_THAT(verdict.oddities, IsEmpty());
}

// While one of the two that renew is stopped the others end the command, and there is no need of a register. Nobody
// tells an engine that the lock of a stopped lockrun is not needed any more: it lets go by itself.
struct Part {
  const char* name;
  std::size_t place; // in processes_but_the_command()
};
class Frozen : public Fencing, public ::testing::WithParamInterface<Part> {};

TEST_P(Frozen, IsEndedBeforeTheLockIsSomebodyElses)
{
  const TempDir dir;
  const std::string log = (dir / "log").string();
  Start start;
  start.out = k_null;
  start.err = to_file(dir / "err");
  Process frozen(under_lock({program("ticker"), log, "600000"}, k_short), start);
  ASSERT_TRUE(eventually([&] { return check_log(read_file(log)).sections == 1; })) << read_file(dir / "err");
  const auto all = processes_but_the_command(frozen.pid());
  ASSERT_THAT(all, SizeIs(3));
  std::istringstream begun(read_file(log));
  std::string word;
  pid_t ticker = 0;
  begun >> word >> ticker;
  Stopped stopped({all[GetParam().place]});
  const auto since = std::chrono::steady_clock::now();
  ASSERT_TRUE(eventually([&] { return has_ended(ticker); }));
  EXPECT_EQ(run_program(under_lock({program("ticker"), log, "1"}), start).status, exited(0));
  EXPECT_LT(std::chrono::steady_clock::now() - since, std::chrono::seconds(18)) << "three times to live";
  stopped.go_on();
  EXPECT_EQ(frozen.wait().status, exited(76)) << read_file(dir / "err");

  const LogVerdict verdict = check_log(read_file(log));
  EXPECT_EQ(verdict.sections, 2U);
  EXPECT_THAT(verdict.overlaps, IsEmpty());
  EXPECT_THAT(verdict.inversions, IsEmpty());
  EXPECT_THAT(verdict.stale, IsEmpty());
  EXPECT_EQ(verdict.refused, 0U);
  EXPECT_TRUE(eventually([&] { return m_etcd->leases().empty(); }));
}

constexpr Part k_parts[] = {{"lockrun", 0}, {"engine", 1}};
INSTANTIATE_TEST_SUITE_P(
  One, Frozen, ::testing::ValuesIn(k_parts), [](const auto& one) { return std::string(one.param.name); });

// The twin of the one above: a lock whose command nobody ends.
TEST_F(Fencing, IsNeededWhereNobodyEndsTheCommand)
{
  const TempDir dir;
  const std::string log = (dir / "log").string();
  const auto lock = [&](const char* time) {
    return m_etcd->etcdctl_argv({"lock", "--ttl=2", "fence", program("ticker"), log, time});
  };
  Start start;
  start.out = k_null;
  start.err = to_file(dir / "err");
  Process frozen(lock("600000"), start);
  ASSERT_TRUE(eventually([&] { return check_log(read_file(log)).sections == 1; })) << read_file(dir / "err");
  frozen.signal(SIGSTOP);
  Process successor(lock("1"), start);
  EXPECT_TRUE(eventually([&] { return !check_log(read_file(log)).overlaps.empty(); }));
  write_file(log + ".stop", "");
  frozen.signal(SIGCONT);
  (void)frozen.wait();
  (void)successor.wait();
}

} // namespace
} // namespace lockrun::testing
