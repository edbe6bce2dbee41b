#include "end_to_end/flock_program.hpp"

#include "support/temp_dir.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace lockrun::testing {
namespace {

namespace fs = std::filesystem;

// A directory with a link called flock to a copy of our program, where other users can reach it, too.
const fs::path& our_directory()
{
  static const TempDir directory;
  static const bool made = [] {
    fs::copy_file(lockrun_binary(), directory / "lockrun");
    fs::create_symlink("lockrun", directory / "flock");
    return true;
  }();
  (void)made;
  return directory.path();
}

} // namespace

void search_ours(Start& start)
{
  start.environment["PATH"] = k_search_path;
  start.before_exec.push_back(
    [path = our_directory().string() + ":" + k_search_path] { ::setenv("PATH", path.c_str(), 1); });
}

Words flock_argv(const Words& arguments)
{
  Words argv{"flock"};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return argv;
}

Process start_ours(const Words& arguments, Start start)
{
  search_ours(start);
  return Process(flock_argv(arguments), start);
}

Finished run_ours(const Words& arguments, const Start& start)
{
  return start_ours(arguments, start).wait();
}

// "1: -> FLOCK  ADVISORY  WRITE 4312 08:01:1311 0 EOF": found by pid.
bool waits_for_lock(pid_t pid)
{
  std::ifstream locks("/proc/locks");
  const std::string wanted = std::to_string(pid);
  for (std::string line; std::getline(locks, line);) {
    std::istringstream words(line);
    std::string number, arrow, api, kind, mode, waiter;
    if (words >> number >> arrow >> api >> kind >> mode >> waiter && arrow == "->" && waiter == wanted) { return true; }
  }
  return false;
}

} // namespace lockrun::testing
