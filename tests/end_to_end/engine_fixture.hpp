#pragma once

// Locks beyond this machine, with an engine that does what a script says (support/programs/fake_engine.cpp). Moments
// are of the elapsed clock; nothing is said about how soon something happens, except where it has to happen before the
// lock is somebody else's.

#include "support/eventually.hpp"
#include "support/notice.hpp"
#include "support/process.hpp"
#include "support/programs.hpp"
#include "support/temp_dir.hpp"

#include <ctime>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

namespace lockrun::testing {

using Words = std::vector<std::string>;

inline long long elapsed_ms()
{
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

// The child of `parent` whose name begins with this; 0 if there is none.
inline pid_t child_called(pid_t parent, const std::string& name)
{
  const std::string base = "/proc/" + std::to_string(parent);
  std::istringstream children(read_file(base + "/task/" + std::to_string(parent) + "/children"));
  for (pid_t child = 0; children >> child;) {
    if (read_file("/proc/" + std::to_string(child) + "/comm").starts_with(name)) { return child; }
  }
  return 0;
}

inline const std::string k_greeting = "send ENGINE version=1 name=fake can=shared,slots,max_waiters,status,fair\n";
inline const std::string k_greet = "expect LOCKRUN version=1\n" + k_greeting;
inline const std::string k_acquire = k_greet + "expect ACQUIRE\n";
inline const std::string k_release = "expect RELEASE\nsend RELEASED\n";

// The lock for `ttl` ms from now on.
inline std::string held(int ttl, const std::string& more = "")
{
  return k_acquire + "send HELD token=7 ttl_ms=" + std::to_string(ttl) + " deadline=@" + std::to_string(ttl - 10) +
         (more.empty() ? "" : " " + more) + "\n";
}
// Long enough for every test that does not wait for the end of it.
inline const std::string k_held = held(60'000);

class Engines : public ::testing::Test {
protected:
  Engines()
  {
    std::filesystem::create_symlink(program("fake_engine"), dir / "lockrun-engine-fake");
    start.environment = {{"LOCKRUN_ENGINE_PATH", dir.path().string()}, {"FAKE_ENGINE_LOG", log}};
    start.descriptors = {{7, cue.read_end}, {8, leash.read_end}, {9, notice.write_end()}};
  }
  void plays(const std::string& script) { start.environment["FAKE_ENGINE"] = script; }
  Process run(const Words& options, const Words& command)
  {
    Words arguments = options;
    arguments.push_back(url);
    arguments.insert(arguments.end(), command.begin(), command.end());
    return Process(lockrun_argv(arguments), start);
  }
  Process run_script(const std::string& script, const Words& options = {})
  {
    return run(options, {"sh", "-c", script});
  }
  Finished finish(const std::string& script, const Words& options = {}) { return run_script(script, options).wait(); }

  // What lockrun said to the engine, verbs only.
  std::vector<std::string> verbs() const
  {
    std::vector<std::string> found;
    std::ifstream lines(log);
    for (std::string line; std::getline(lines, line);) { found.push_back(line.substr(0, line.find(' '))); }
    return found;
  }
  std::string said() const { return read_file(log); }

  static pid_t twin_of(const Process& lockrun) { return there(child_called(lockrun.pid(), "lease-guardian")); }
  static pid_t engine_of(const Process& lockrun) { return there(child_called(lockrun.pid(), "lockrun-engine")); }
  // Process 0 is everybody in our own process group for kill(2).
  static pid_t there(pid_t pid)
  {
    if (pid <= 0) { throw std::runtime_error("there is no such process"); }
    return pid;
  }

  // Nobody has standard output open any more: neither lockrun nor its twin nor anything that the command started.
  static void expect_all_gone(Process& lockrun)
  {
    while (lockrun.out_line()) {}
  }
  void expect_nothing_ran() const { EXPECT_FALSE(std::filesystem::exists(dir / "ran")); }

  TempDir dir;
  std::string log = dir / "log";
  std::string url = "fake://host/deploy";
  std::string leave_a_mark = "touch " + (dir / "ran").string();
  Pipe leash;    // 8: the command stays until this is closed
  Pipe cue;      // 7: the engine goes on when this is closed
  Notice notice; // 9: the engine has come so far
  Start start;
};

inline const std::string k_stay = "echo $$; exec cat <&8";
inline const std::string k_stubborn = "trap '' TERM; echo $$; cat <&8; cat <&8; cat <&8";

} // namespace lockrun::testing
