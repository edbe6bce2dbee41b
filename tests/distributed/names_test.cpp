#include "support/eventually.hpp"
#include "support/name_server.hpp"
#include "support/network.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include <csignal>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

// lockrun itself while the names of its servers cannot be looked up.
namespace lockrun::testing {
namespace {

using ::testing::HasSubstr;

constexpr const char* k_name_server = "127.0.0.1";

class Names : public ::testing::Test {
protected:
  void SetUp() override
  {
    if (const auto reason = no_network()) { GTEST_SKIP() << *reason; }
    network.emplace();
  }

  Process lockrun(const std::vector<std::string>& options = {}) const
  {
    std::vector<std::string> argv = options;
    for (const std::string& word : {std::string("etcd://etcd.test/lock"), std::string("touch"), ran().string()}) {
      argv.push_back(word);
    }
    Start start = with_name_servers(dir, {k_name_server});
    start.environment["RES_OPTIONS"] = std::nullopt;
    return Process(lockrun_argv(argv), start);
  }

  std::filesystem::path ran() const { return dir / "ran"; }

  // Another one is still at it, and the command was not run.
  void expect_that_it_is_still_looked_up(const Process& other) const
  {
    EXPECT_TRUE(is_asleep(other.pid()));
    EXPECT_EQ(other.err_so_far(), "");
    EXPECT_FALSE(std::filesystem::exists(ran()));
  }

  const TempDir dir;
  std::optional<OwnNetwork> network;
};

TEST_F(Names, LookUpThatHangsLeavesSignalsAtWork)
{
  const NameServer names(k_name_server, silence());
  const Process other = lockrun();
  Process signalled = lockrun();
  ASSERT_TRUE(eventually([&] { return names.questions() >= 4; })); // both ask for both kinds of addresses
  signalled.signal(SIGTERM);
  EXPECT_EQ(signalled.wait().status, killed(SIGTERM));
  expect_that_it_is_still_looked_up(other);
}

TEST_F(Names, LookUpThatHangsDoesNotOutlastTheTimeLimit)
{
  const NameServer names(k_name_server, silence());
  const Process other = lockrun();
  Process limited = lockrun({"-w", "1s"});
  const Finished ended = limited.wait();
  EXPECT_EQ(ended.status, exited(69));
  EXPECT_THAT(ended.err, HasSubstr("cannot reach etcd: etcd.test:2379: its name is not resolved in time"));
  expect_that_it_is_still_looked_up(other);
}

} // namespace
} // namespace lockrun::testing
