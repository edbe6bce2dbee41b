#include "child/supervise.hpp"

#include "support/notice.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"
#include "sys/clock.hpp"
#include "sys/signal.hpp"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

using namespace std::chrono_literals;
using child::Ending;
using child::Supervision;

struct Silent final : child::Observer {
  void overtime(const child::TimeLimit&) override { ++told; }
  void cannot_end(const std::vector<sys::ProcessStatus>&) override { ++told; }
  int told = 0;
};

// Supervises a command in a fork of the test and looks at what came of it there.
void supervise(std::vector<std::string> words, const Supervision& how,
  const std::function<bool(const Result<Ending, Error>&)>& is_right)
{
  Forked supervisor([&] {
    std::vector<char*> argv;
    for (std::string& word : words) { argv.push_back(word.data()); }
    argv.push_back(nullptr);
    sys::Program program{};
    program.file = argv[0];
    program.argv = argv.data();
    return is_right(child::run(program, how)) ? 0 : 1;
  });
  EXPECT_EQ(supervisor.wait(), exited(0));
}

bool is(const Result<Ending, Error>& ending, Ending::How how, int value)
{
  return ending && ending->how == how && ending->value == value;
}

TEST(Supervise, TellsHowTheCommandEnded)
{
  supervise({"sh", "-c", "exit 7"}, {}, [](const auto& ending) { return is(ending, Ending::How::exited, 7); });
  supervise(
    {"sh", "-c", "kill -KILL $$"}, {}, [](const auto& ending) { return is(ending, Ending::How::killed, SIGKILL); });
}

TEST(Supervise, TellsWhyThereWasNoCommand)
{
  supervise({"/no/such/command"}, {}, [](const auto& ending) {
    return !ending && ending.error().reason == Reason::not_found && ending.error().target == "/no/such/command";
  });
  supervise({"/"}, {}, [](const auto& ending) {
    return !ending && ending.error().reason == Reason::not_executable && ending.error().cause.code == EACCES;
  });
}

TEST(Supervise, ReturnsBeforeADaemonUnlessTheWholeTreeCounts)
{
  const std::string script = "cat <&8 & echo $! >&9; exit 7";
  for (const bool until_tree_ends : {false, true}) {
    Pipe leash;
    Pipe out;
    Forked supervisor([&] {
      ::dup2(leash.read_end, 8);
      ::dup2(out.write_end, 9);
      leash.close_write();
      std::string words[] = {"sh", "-c", script};
      char* argv[] = {words[0].data(), words[1].data(), words[2].data(), nullptr};
      sys::Program program{};
      program.file = argv[0];
      program.argv = argv;
      Supervision how;
      how.until_tree_ends = until_tree_ends;
      how.names_left_behind = true;
      const auto ending = child::run(program, how);
      return is(ending, Ending::How::exited, 7) && ending->left_behind.empty() == until_tree_ends ? 0 : 1;
    });
    out.close_write();
    char byte = 0;
    ASSERT_EQ(::read(out.read_end, &byte, 1), 1); // the daemon lives
    if (until_tree_ends) { leash.close_write(); }
    EXPECT_EQ(supervisor.wait(), exited(0));
  }
}

TEST(Supervise, EndsTheTreeInTime)
{
  Silent observer;
  Supervision how;
  how.observer = &observer;
  how.limit = child::TimeLimit{sys::elapsed_now() + 20ms, 1h};
  supervise({"sleep", "1000"}, how, [&](const auto& ending) {
    return ending && ending->how == Ending::How::overtime && !ending->needed_kill && observer.told == 1;
  });
  how.limit = child::TimeLimit{sys::elapsed_now() + 20ms, 20ms};
  const auto before = sys::set_disposition(SIGTERM, sys::Disposition::ignored); // and so does the command
  ASSERT_TRUE(before);
  supervise({"sleep", "1000"}, how,
    [](const auto& ending) { return ending && ending->how == Ending::How::overtime && ending->needed_kill; });
  ASSERT_TRUE(sys::set_disposition(SIGTERM, *before));
}

TEST(Supervise, ATimeThatHasPassedAlreadyEndsItAtOnce)
{
  Silent observer;
  Supervision how;
  how.observer = &observer;
  how.limit = child::TimeLimit{0ns, 1h};
  supervise({"sleep", "1000"}, how, [](const auto& ending) { return ending && ending->how == Ending::How::overtime; });
}

} // namespace
} // namespace lockrun::testing
