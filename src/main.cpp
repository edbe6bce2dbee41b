// clang-format off
// lockrun: run a command while holding a lock.
//
//   argv ─ options/parse ─► Call ─ cli/obtain ─► Holding ─ run ─► Ending ─ cli/exit_code ─► exit status
//                             │                     ├─ local:  lock/ and child/
//                             │                     └─ leased: remote/ (engine client, guard, twin)
//                             └── every failure is one Error ─► cli/reporter ─► words, events, syslog
//
// All units, by directory; docs/architecture.md describes how they work together, tests/layers.sh which may include which.
//
//   cli/       run (a whole call) · obtain (the lock, wherever it is) · leased (that of an engine) · lock_environment (LOCKRUN_*) ·
//              reporter (what is said, and when) · lines (on standard error) · failure_words, hints, holder_words (in which words) ·
//              reason_table, exit_code (what a failure means) · progress, wait_line (while it waits) · events, json (for programs) ·
//              system_log · signals · show_status · show_probe
//   options/   parse · scan · option_table · rules (what cannot be combined) · command_line (LOCK and the command) ·
//              call (the result) · engine_url (its parameters and password)
//   flock/     under the name flock: options · sizes · run
//   startup/   cli11 (reads values, writes --help) · standard_descriptors · print (to standard output) ·
//              terminate, iostream_init (tricks of the static program)
//   lock/      acquire · hold · take, wanted (step by step) · lock_file (open it) · place (name:) · wait (the clock) ·
//              in_turn (queues) · several (--also) · stamp (who took it) · nested (locks of our ancestors) · ancestor_check (is it for us to wait) ·
//              deadlock, wait_graph, process_trees (circles) · tree_watch (when to look for either) ·
//              lock_line (a line of /proc/locks) · subject, look (who holds it, as /proc shows it) · status (and asks, by trying) ·
//              hinted_look, holder_hint, look_turn (one looks for many) · probe · remove (--unlink)
//   remote/    engine (a lock that an engine program holds) · engine_program (start it) · engine_channel (talk to it) ·
//              engine_messages, engine_users (what is said) · engine_acquire · engine_status · process_instance ·
//              guard, twin, lease_clock, lease_connection (a command under a lease)
//   kernel/    kernel_lock, flock, ofd (the locks) · queue, slots · ancestry (who descends from whom)
//   child/     supervise · signal_relay (passes signals on) · signal_rules (which, to whom; Ctrl-Z) · witness (who else got a signal) ·
//              tree (descendants) · terminator, control_group (the end of all of them)
//   protocol/  protocol: what lockrun and an engine program say to each other · lease (when a command under one is ended)
//   engines/   what engine programs share: session (their life) · backend (what one of them knows: the seam) · messages · attention ·
//              lease, backoff (when) · url, password · and net/ (HTTP, TLS, names), etcd/
//   timeline/  lockrun-timeline: main · options · read, call (events) · picture · terminal · svg
//   text/      quote · display_width · utf8 · ascii · duration · words (of errors and signals) · exit_status
//   sys/       one unit for each part of the kernel's interface: again · channel · clock · descriptor · file · interruption · lock ·
//              memory · mount · passwd · poller · proc · process · program · raw · signal · socket · terminal · thread
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
  if (lockrun::flock::is_called_as_flock(argv[0])) { return lockrun::flock::run_as_flock(argc, argv); }
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
