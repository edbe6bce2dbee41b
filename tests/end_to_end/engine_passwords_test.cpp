// A password in the URL of a lock is for the engine alone.

#include "end_to_end/engine_fixture.hpp"
#include "support/eventually.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include <csignal>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const std::string k_status_of_none = k_greet + "expect STATUS\nsend END\neof\n";

TEST_F(Engines, AreTheOnlyOnesWhoHearAPassword)
{
  plays(k_held + "send TROUBLE text=alas\nsend TROUBLE text=oh\n" + k_release);
  url = "fake://user:s3cret@host/deploy?sslpassword=s3cret&password-file=/etc/pw";
  start.out = k_pipe;
  Process lockrun =
    run_script("env; tr '\\0' ' ' </proc/$PPID/cmdline; echo; tr '\\0' ' ' </proc/$LOCKRUN_PID/cmdline; echo; "
               "echo over; exec cat <&8");
  std::string all;
  for (auto line = lockrun.out_line(); line && *line != "over"; line = lockrun.out_line()) { all += *line + "\n"; }
  EXPECT_THAT(read_file("/proc/" + std::to_string(engine_of(lockrun)) + "/cmdline"), Not(HasSubstr("s3cret")));
  EXPECT_TRUE(eventually([&] { return lockrun.err_so_far().find("alas") != std::string::npos; }));
  lockrun.signal(SIGTERM);
  const Finished ended = lockrun.wait();
  EXPECT_EQ(ended.status, exited(128 + SIGTERM));
  EXPECT_THAT(all, Not(HasSubstr("s3cret")));
  EXPECT_THAT(all, HasSubstr("LOCKRUN_LOCK=fake://user:******@host/deploy?sslpassword=******&password-file=/etc/pw\n"));
  EXPECT_THAT(ended.err, AllOf(HasSubstr("alas"), Not(HasSubstr("s3cret"))));
  EXPECT_THAT(said(), HasSubstr("url=fake://user:s3cret@host/deploy?sslpassword=s3cret&password-file=/etc/pw"));
}

TEST_F(Engines, DoNotHearThePasswordsOfTheCommandNorDoesAnybodyElse)
{
  plays(k_held + k_release);
  const std::string show = "echo $0; tr '\\0' ' ' </proc/$PPID/cmdline; echo; tr '\\0' ' ' </proc/$LOCKRUN_PID/cmdline";
  const Finished ended = run({"--events", dir / "events"}, {"sh", "-c", show, "fake://bob:1nner@host/x"}).wait();
  EXPECT_EQ(ended.status, exited(0));
  EXPECT_THAT(ended.out, StartsWith("fake://bob:1nner@host/x\n"));
  EXPECT_THAT(
    ended.out.substr(ended.out.find('\n')), AllOf(HasSubstr("fake://bob:*****@host/x"), Not(HasSubstr("1nner"))));
  EXPECT_THAT(said(), AllOf(HasSubstr("fake://bob:*****@host/x"), Not(HasSubstr("1nner"))));
  EXPECT_THAT(read_file(dir / "events"), AllOf(HasSubstr("fake://bob:*****@host/x"), Not(HasSubstr("1nner"))));
}

// Locks of this machine, too.
TEST_F(Engines, AreNotNeededToHideThePasswordsOfAHoldersCommand)
{
  start.out = k_pipe;
  const std::string file = dir / "file";
  Process holder(
    lockrun_argv({"-F", file, "sh", "-c", "echo; cat <&8; true", "etcd://bob:1nner@host/x", std::string(300, 'x')}),
    start);
  holder.out_line();
  start.out = k_captured;
  const std::string events = dir / "events";
  for (const Words& words :
    {Words{"-n", "--events", events, file, "true"}, {"--status", file}, {"--status", "--json", file}}) {
    const Finished ended = run_lockrun(words, start);
    EXPECT_EQ(ended.status, exited(75));
    const std::string shown = ended.out + ended.err + read_file(events);
    EXPECT_THAT(shown, AllOf(HasSubstr("etcd://bob:*****@host/x"), Not(HasSubstr("1nner"))));
  }
  leash.close_write();
}

TEST_F(Engines, AreTheOnlyOnesWhoHearWhatMayBeAPassword)
{
  const std::string script = k_held + "send TROUBLE text=cannot%20reach%20fake://ann:s3cret/x\n" + k_release;
  for (const char* const lock : {"fake://host/deploy?auth=s3cret", "fake://ann:s3cret/deploy", "fake://ann:s3cret",
         "FAKE://ann:s3cret@host/deploy", "fake://host/deploy?ttl=9s&s3cret", "fake://ann:a/s3cret/deploy"}) {
    plays(script);
    url = lock;
    const Finished ended = run({"-v", "--events", dir / "events"},
      {"sh", "-c", "env; tr '\\0' ' ' </proc/$PPID/cmdline; tr '\\0' ' ' </proc/$LOCKRUN_PID/cmdline"})
                             .wait();
    EXPECT_EQ(ended.status, exited(0));
    EXPECT_THAT(said(), HasSubstr(std::string("url=") + lock + "\n"));
    std::istringstream lines(ended.out);
    for (std::string line; std::getline(lines, line);) {
      if (line.find("send TROUBLE") == std::string::npos) { // that is the script, in the environment
        EXPECT_THAT(line, Not(HasSubstr("s3cret"))) << lock;
      }
    }
    EXPECT_THAT(ended.err, AllOf(HasSubstr("got "), Not(HasSubstr("s3cret"))));
    EXPECT_THAT(read_file(dir / "events"), Not(HasSubstr("s3cret")));
    plays(k_status_of_none);
    const Finished status = run_lockrun({"--status", lock}, start);
    EXPECT_EQ(status.status, exited(0));
    EXPECT_THAT(status.out + status.err, Not(HasSubstr("s3cret")));
  }
}

TEST_F(Engines, HaveNoPasswordInUsageErrors)
{
  const std::string lock = "fake://user:s3cret@host/deploy";
  for (const Words& arguments : {Words{lock}, {"-w", lock, "true"}, {"--fd", lock, "true"}, {"-u", lock},
         {"-F", lock, "true"}, {lock + "?ttl=s3", "true"}, {"--also", lock, "f", "true"}, {"-E", lock, "true"},
         {"-c", "true", "f", lock}, {lock + "?publish=x", "true"}}) {
    const Finished ended = run_lockrun(arguments, start);
    EXPECT_EQ(ended.status, exited(64));
    EXPECT_THAT(ended.err, AllOf(HasSubstr("user:******@"), Not(HasSubstr("s3cret@"))));
  }
  const std::string odd = "fake://user:a s3cret@host/deploy"; // no end of a word
  for (const Words& arguments :
    {Words{odd}, {"-w", odd, "true"}, {"-c", "true", "f", odd}, {"f", "-c", "true", odd}, {"--probe", "f", odd},
      {"--probe", odd}, {"--status", "-c", odd, "f"}, {"--status", "f", "--", odd}, {"--also", odd, "f", "true"},
      {"-u", "9", odd}, {"-u", odd}, {"--" + odd, "f", "true"}, {"--nb=" + odd, "f"}}) {
    const Finished ended = run_lockrun(arguments, start);
    EXPECT_EQ(ended.status, exited(64));
    EXPECT_THAT(ended.err, Not(HasSubstr("s3cret"))) << ::testing::PrintToString(arguments);
  }
}

} // namespace
} // namespace lockrun::testing
