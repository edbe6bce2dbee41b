// clang-format off
// lockrun: run a command while holding a lock.
//
// The map of the house. One way in, and every step of the story is the next door:
//
//   argv ─► options/parse ─► Options ─► lock/acquire ─► Lock ─► child/supervise ─► Ending ─► cli/exit_code ─► exit status
//                │                        │                        │
//                └── usage error ─────────┴── busy, failed ────────┴── not started ──► cli/report (all our words)
//
//   include/lockrun/  the library's face: request · lock · error · version. Includes nothing from here.
//   cli/              what did you ask, and what do we answer: options (scan, option_table, duration; CLI11 lives there and
//                     nowhere else) · run (the story), run_beyond (the one with an engine) · report, hints · quote · exit_code ·
//                     engine_url (its password) · print (what was asked for) · rules (what cannot be combined) · progress (while we wait) ·
//                     events, json (for programs) · system_log · show_status · show_probe
//   flock/            called as flock: options · sizes · run
//   lock/             what does it mean to hold: acquire · take, wanted (step by step) · lock_file (opening it) · place (name:) ·
//                     wait (the only place that knows time) · in_turn (--fair, --slots) · several (--also) · lock_line (a line of
//                     /proc/locks) · nested (locks of our ancestors) · deadlock (circles) · tree_watch (both, while we wait) · status (who holds it) · look_turn, holder_hint (one looks for many) ·
//                     probe (does locking work there) · remove (--unlink)
//   backends/         who grants it: flock · ofd · queue · slots · ancestry (who descends from whom) · engine (our end of the talk
//                     with an engine program)
//   child/            who works meanwhile: supervise (stay, end it in time) · relay (signals, Ctrl-Z) · witness (whom else a
//                     signal was for) · tree (descendants) ·
//                     terminator, control_group (the end of all of them) · guard, twin, deadline (under a lock that can be lost)
//   engines/          the engine programs, and protocol: what we and they say to each other · session (what they have in common) ·
//                     net/ (names, connections, HTTP) · etcd/
//   timeline/         lockrun-timeline, a program of its own, whose door is src/timeline.cpp: options · read (events) · picture ·
//                     terminal · svg
//   sys/              what does the kernel say: one function per system call, values out, no words, no policy
//
// Who may look into whose room: cli → {lock, child, backends, sys}, lock → {backends, sys}, child → sys, backends → sys,
// timeline → {cli, sys}.
// clang-format on

#include "cli/exit_code.hpp"
#include "cli/lines.hpp"
#include "cli/run.hpp"
#include "cli/show_probe.hpp"
#include "cli/show_status.hpp"
#include "flock/run.hpp"
#include "options/parse.hpp"
#include "startup/print.hpp"
#include "sys/process.hpp"

#include <lockrun/version.hpp>

#include <string>

namespace {

using namespace lockrun;

int answer(int argc, char** argv)
{
  if (flock::is_called_as_flock(argv[0])) { return flock::run_as_flock(argc, argv); }
  const auto options = cli::parse_options(argc, argv);
  if (!options) {
    cli::tell(options.error());
    return k_usage;
  }
  const cli::Call& call = options->call;
  switch (call.action) {
  case cli::Action::help:
    return cli::print(cli::help());
  case cli::Action::version:
    return cli::print(std::string("lockrun ") + k_version + "\n");
  case cli::Action::status:
    return cli::show_status(options->question, call.reporting, call.conflict_exit_code);
  case cli::Action::probe:
    return cli::show_probe(options->question, call.reporting, call.conflict_exit_code);
  case cli::Action::run:
  case cli::Action::lock_descriptor:
  case cli::Action::unlock_descriptor:
    break;
  }
  return cli::run(call);
}

} // namespace

int main(int argc, char** argv)
{
  // Everything has been written by now: destructors and buffers of the C library have nothing left to do.
  sys::exit_now(answer(argc, argv));
}
