// --syslog, read from the socket that a system's log listens on. In a mount namespace with a /dev of its own, so that
// the log of the machine is left alone.
#include "support/eventually.hpp"
#include "support/held_lock.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include <csignal>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::Value;

// The socket lies in a directory that is mounted over /dev for the program alone.
class SystemLog {
public:
  SystemLog() : m_socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0))
  {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = m_dir / "log";
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    if (::bind(m_socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      throw std::runtime_error("bind");
    }
    write_file(m_dir / "null", "");
  }
  ~SystemLog() { ::close(m_socket); }

  // For Start::before_exec.
  std::function<void()> mounted() const
  {
    return [directory = m_dir.path()] {
      if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
          ::mount(directory.c_str(), "/dev", nullptr, MS_BIND, nullptr) != 0) {
        throw std::system_error(errno, std::generic_category());
      }
    };
  }

  // Nothing more finds room.
  void fill() const
  {
    const std::string path = m_dir / "log";
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    const int sender = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const auto* const where = reinterpret_cast<const sockaddr*>(&address);
    while (::sendto(sender, "", 1, 0, where, sizeof address) == 1) {}
    ::close(sender);
  }

  // What has come. A datagram is there when the program that has sent it has ended.
  std::vector<std::string> lines() const
  {
    std::vector<std::string> result;
    char bytes[4096];
    for (ssize_t size = 0; (size = ::recv(m_socket, bytes, sizeof bytes, 0)) > 0;) {
      result.emplace_back(bytes, static_cast<std::size_t>(size));
    }
    return result;
  }

private:
  const TempDir m_dir;
  int m_socket;
};

class SyslogOption : public ::testing::Test {
protected:
  void SetUp() override
  {
    start.before_exec = {log.mounted()};
    try {
      (void)run_program({"true"}, start);
    } catch (const std::system_error& error) {
      GTEST_SKIP() << "no mount namespace: " << error.what();
    }
  }
  Finished lockrun(std::vector<std::string> arguments) const
  {
    arguments.insert(arguments.begin(), "--syslog");
    return run_lockrun(arguments, start);
  }

  const SystemLog log;
  const TempDir dir;
  const std::string path = dir / "lock";
  Start start;
};

// "<14>lockrun[4312]: text"; the number is facility (user, 1) times 8 plus severity.
std::string line(int severity, const std::string& text)
{
  return fmt::format("<{}>lockrun\\[[0-9]+\\]: {}", 8 + severity, text);
}
constexpr int k_error = 3;
constexpr int k_warning = 4;
constexpr int k_info = 6;

TEST_F(SyslogOption, TellsThatItWasBusy)
{
  const HoldingProcess holder(path);
  const auto told = lockrun({"-n", path, "true"});
  EXPECT_EQ(told.status, exited(75));
  EXPECT_NE(told.err, "");
  EXPECT_THAT(
    log.lines(), ElementsAre(MatchesRegex(line(k_info, fmt::format("'{}' is held by PID {} .*", path, holder.pid())))));
}

TEST_F(SyslogOption, TellsThatTooManyWait)
{
  const HoldingProcess holder(path);
  const auto told = lockrun({"-q", "--max-waiters", "0", path, "true"});
  EXPECT_EQ(told.status, exited(75));
  EXPECT_EQ(told.err, "");
  EXPECT_THAT(log.lines(),
    ElementsAre(MatchesRegex(line(k_info, ".* is held by PID .*, and the limit of waiters \\(0\\) is reached"))));
}

// net.unix.max_dgram_qlen datagrams are kept for a log that does not read, and who sends one more would wait.
TEST_F(SyslogOption, ALogThatDoesNotReadKeepsNobody)
{
  log.fill();
  const HoldingProcess holder(path);
  EXPECT_EQ(lockrun({"-n", path, "true"}).status, exited(75));
}

TEST_F(SyslogOption, TellsItWhenQuietToo)
{
  const HoldingProcess holder(path);
  const auto told = lockrun({"-qn", path, "true"});
  EXPECT_EQ(told.err, "");
  EXPECT_THAT(log.lines(), ElementsAre(MatchesRegex(line(k_info, ".* is held by PID .*"))));
}

TEST_F(SyslogOption, TellsThatTheTimeWasUp)
{
  const HoldingProcess holder(path);
  const auto words = line(k_warning, fmt::format("gave up waiting for '{}' after 10ms, held by PID .*", path));
  EXPECT_TRUE(eventually([&] { // one without a processor for so long has not looked for the holder
    EXPECT_EQ(lockrun({"-w", "10ms", path, "true"}).status, exited(75));
    return Value(log.lines(), ElementsAre(MatchesRegex(words)));
  }));
}

TEST_F(SyslogOption, TellsThatTheLockWasHeldTooLong)
{
  EXPECT_EQ(lockrun({"--max-hold", "50ms", path, "sleep", "1000"}).status, exited(124));
  EXPECT_THAT(log.lines(),
    ElementsAre(MatchesRegex(
      line(k_warning, fmt::format("'{}' was held for 50ms, the limit: ended 'sleep' and all that it started", path)))));
}

TEST_F(SyslogOption, TellsFailures)
{
  EXPECT_EQ(lockrun({path, "no-such-command"}).status, exited(127));
  EXPECT_EQ(lockrun({(dir / "missing" / "lock").string(), "true"}).status, exited(73));
  EXPECT_THAT(log.lines(), ElementsAre(MatchesRegex(line(k_error, "cannot run 'no-such-command': not found in PATH")),
                             MatchesRegex(line(k_error, "cannot open '.*': No such file or directory \\(ENOENT\\)"))));
}

TEST_F(SyslogOption, TellsNothingOfSuccess)
{
  EXPECT_EQ(lockrun({path, "true"}).status, exited(0));
  EXPECT_EQ(lockrun({path, "sh", "-c", "exit 3"}).status, exited(3));
  EXPECT_THAT(log.lines(), IsEmpty());
}

TEST_F(SyslogOption, IsSilentUnlessAskedFor)
{
  const HoldingProcess holder(path);
  EXPECT_EQ(run_lockrun({"-n", path, "true"}, start).status, exited(75));
  EXPECT_THAT(log.lines(), IsEmpty());
}

TEST(SyslogWithoutALog, HarmsNothing)
{
  const TempDir dir;
  const HoldingProcess holder(dir / "lock");
  Start start;
  start.before_exec = {[directory = dir.path()] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount(directory.c_str(), "/dev", nullptr, MS_BIND, nullptr) != 0) {
      throw std::system_error(errno, std::generic_category());
    }
  }};
  try {
    const auto told = run_lockrun({"--syslog", "-n", (dir / "lock").string(), "true"}, start);
    EXPECT_EQ(told.status, exited(75));
  } catch (const std::system_error& error) {
    GTEST_SKIP() << "no mount namespace: " << error.what();
  }
}

} // namespace
} // namespace lockrun::testing
