#pragma once

#include "child/supervise.hpp"
#include "cli/options.hpp"

#include <lockrun/error.hpp>

namespace lockrun::cli {

// All our words: every line that lockrun writes comes from here, to standard error, one fact a line.

// A failure, with a hint where we truly know one.
void report(const Error& error, const Options& options);

// A command line that means nothing.
void report(const UsageError& error);

// The lock could not be freed at the end; it ends with the processes that share it.
void report_release_failure(const SysError& error, const Options& options);

// What the command started and left running when it ended; nothing if that is nothing.
void report_left_behind(const std::vector<sys::ProcessStatus>& members);

// Tells what happens to the command's tree while it runs.
class SupervisionReport final : public child::Observer {
public:
  explicit SupervisionReport(const Options& options) : m_options(options) {}
  void overtime(const child::TimeLimit& limit) override;
  void cannot_end(const std::vector<sys::ProcessStatus>& members) override;

private:
  const Options& m_options;
};

} // namespace lockrun::cli
