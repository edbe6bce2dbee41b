#pragma once

namespace lockrun::flock {

// Whether the program was started under the name "flock", by a link to it.
bool is_called_as_flock(const char* argv0);

// Is flock(1) of util-linux 2.42, with --fd of the version after it: its options, its words, its exit statuses. Returns
// the exit status, or not at all with --no-fork. A lock file is opened, waited for and checked as everywhere in
// lockrun.
int run_as_flock(int argc, char** argv);

} // namespace lockrun::flock
