// The tables in EXIT STATUS of man/lockrun.1, against the only place that knows the numbers.
#include "cli/exit_code.hpp"
#include "support/temp_dir.hpp"

#include <cerrno>
#include <cstring>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace lockrun::cli {
namespace {

using lockrun::testing::read_file;

const std::string k_source = LOCKRUN_SOURCE_DIR;

std::vector<std::string> lines_of(const std::string& text)
{
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) { lines.push_back(line); }
  return lines;
}

// All that `pattern` finds in the section, one match a line.
std::vector<std::smatch> rows(const std::vector<std::string>& lines, const std::regex& pattern)
{
  std::vector<std::smatch> found;
  for (const std::string& line : lines) {
    if (std::smatch match; std::regex_search(line, match, pattern)) { found.push_back(match); }
  }
  return found;
}

std::vector<std::string> exit_status_section()
{
  std::vector<std::string> section;
  bool inside = false;
  for (const std::string& line : lines_of(read_file(k_source + "/man/lockrun.1"))) {
    if (line.starts_with(".Sh ")) { inside = line == ".Sh EXIT STATUS"; }
    if (inside) { section.push_back(line); }
  }
  return section;
}

TEST(Manual, ListsEveryExitStatusUnderItsName)
{
  std::map<std::string, std::string> in_manual; // "75": "EX_TEMPFAIL"
  const auto section = exit_status_section();
  for (const auto& row : rows(section, std::regex(R"(^\.It ([0-9]+)(\+N)? Ta (Dv (EX_\w+) |(?!Er ))Ta)"))) {
    in_manual[row[1]] = row[4];
  }
  std::map<std::string, std::string> in_source;
  const auto source = lines_of(read_file(k_source + "/src/text/exit_status.hpp"));
  for (const auto& row : rows(source, std::regex(R"(^ +k_\w+ = ([0-9]+),( +// (EX_\w+))?)"))) {
    in_source[row[1]] = row[3];
  }
  EXPECT_FALSE(in_source.empty());
  EXPECT_EQ(in_manual, in_source);
}

TEST(Manual, GivesEveryErrnoTheStatusThatItHas)
{
  std::map<std::string, int> in_manual;
  const auto section = exit_status_section();
  for (const auto& row : rows(section, std::regex(R"(^\.It ([0-9]+) Ta Er (.*))"))) {
    std::istringstream names(std::regex_replace(row[2].str(), std::regex(","), " "));
    for (std::string name; names >> name;) { in_manual[name] = std::stoi(row[1]); }
  }
  constexpr int k_last_errno = 133; // EHWPOISON
  std::set<std::string> known;
  for (int code = 1; code <= k_last_errno; ++code) {
    const char* const name = ::strerrorname_np(code);
    if (name == nullptr) { continue; }
    known.insert(name);
    const auto row = in_manual.find(code == EOPNOTSUPP ? "EOPNOTSUPP" : name); // it has two names
    const int expected = row == in_manual.end() ? k_software : row->second;
    for (const Reason reason : {Reason::open_failed, Reason::lock_failed}) {
      EXPECT_EQ(exit_code_for(Error{reason, "/tmp/lock", {"call", code}, {}}, k_busy), expected) << name;
    }
  }
  EXPECT_FALSE(in_manual.empty());
  for (const auto& [name, status] : in_manual) {
    EXPECT_TRUE(known.contains(name) || name == "EOPNOTSUPP") << name << " is no errno";
  }
}

// The sentences below the tables.
TEST(Manual, NamesTheErrnosThatDependOnWhatFailed)
{
  const auto section = read_file(k_source + "/man/lockrun.1");
  EXPECT_NE(section.find(".Er EAGAIN\non starting the command is 71."), section.npos);
  EXPECT_EQ(exit_code_for(Error{Reason::start_failed, "true", {"clone", EAGAIN}, {}}, k_busy), 71);
  EXPECT_NE(section.find(".Er EBADF\nfor the caller\\(aqs own descriptor is 65."), section.npos);
  EXPECT_EQ(exit_code_for(Error{Reason::bad_descriptor, "", {"flock", EBADF}, {}}, k_busy), 65);
}

} // namespace
} // namespace lockrun::cli
