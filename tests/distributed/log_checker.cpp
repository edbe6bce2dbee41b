#include "log_checker.hpp"

#include <algorithm>
#include <map>
#include <sstream>

#include <fmt/format.h>

namespace lockrun::testing {
namespace {

struct Section {
  int pid = 0;
  std::int64_t token = 0;
  std::int64_t begin = 0;
  std::int64_t last = 0; // when it was last seen at work
};

bool is_known(const std::string& what)
{
  return what == "begin" || what == "tick" || what == "refused" || what == "end";
}

} // namespace

LogVerdict check_log(const std::string& log)
{
  LogVerdict verdict;
  std::vector<Section> sections;
  std::map<int, std::size_t> running; // by pid, which the kernel may use again
  std::int64_t newest = 0;            // that the register has taken
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string what;
    Section seen;
    if (!(words >> what >> seen.pid >> seen.token >> seen.begin) || !is_known(what)) {
      verdict.oddities.push_back(line);
      continue;
    }
    if (what == "begin") {
      seen.last = seen.begin;
      running[seen.pid] = sections.size();
      sections.push_back(seen);
      continue;
    }
    const auto found = running.find(seen.pid);
    if (found == running.end() || sections[found->second].token != seen.token) {
      verdict.oddities.push_back(line);
      continue;
    }
    sections[found->second].last = std::max(sections[found->second].last, seen.begin);
    if (what == "end") { continue; }
    // The rest is in the order in which the register was written to.
    const bool is_refused = what == "refused";
    if (is_refused != (seen.token < newest)) {
      verdict.stale.push_back(fmt::format(
        "PID {} was {} with token {} after {}", seen.pid, is_refused ? "refused" : "let in", seen.token, newest));
    }
    if (is_refused) {
      ++verdict.refused;
    } else {
      newest = std::max(newest, seen.token);
    }
  }
  std::sort(sections.begin(), sections.end(), [](const Section& a, const Section& b) { return a.begin < b.begin; });
  verdict.sections = sections.size();
  const Section* longest = nullptr; // of the earlier ones, the one seen last
  std::int64_t greatest = 0;
  for (const Section& section : sections) {
    if (longest != nullptr && longest->last > section.begin) {
      verdict.overlaps.push_back(fmt::format("PID {} (token {}) began {} us before PID {} (token {}) was last seen",
        section.pid, section.token, (longest->last - section.begin) / 1000, longest->pid, longest->token));
    }
    if (section.token <= greatest) {
      verdict.inversions.push_back(
        fmt::format("PID {} began with token {} after {}", section.pid, section.token, greatest));
    }
    greatest = std::max(greatest, section.token);
    if (longest == nullptr || section.last > longest->last) { longest = &section; }
  }
  return verdict;
}

std::vector<std::string> leftovers(const std::vector<std::string>& before, const std::vector<std::string>& after)
{
  std::vector<std::string> left;
  for (const std::string& one : after) {
    if (std::find(before.begin(), before.end(), one) == before.end()) { left.push_back(one); }
  }
  return left;
}

} // namespace lockrun::testing
