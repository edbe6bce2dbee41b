#include "cli/show_probe.hpp"

#include "cli/exit_code.hpp"
#include "cli/reporter.hpp"
#include "lock/probe.hpp"
#include "startup/print.hpp"
#include "startup/standard_descriptors.hpp"
#include "text/quote.hpp"
#include "text/words.hpp"

#include <string>
#include <string_view>

#include <fmt/format.h>

namespace lockrun::cli {
namespace {

using Outcome = ProbedLock::Outcome;

// What is known of a file system, as a sentence without its subject. Two processes of this machine were tried out; what
// reaches other machines can only be known.
struct Known {
  std::string_view type; // a trailing '*' stands for anything
  const char* reach;
};
constexpr Known k_known[] = {
  {"ext*", "local"},
  {"xfs", "local"},
  {"btrfs", "local"},
  {"f2fs", "local"},
  {"zfs", "local"},
  {"bcachefs", "local"},
  {"tmpfs", "local, in memory"},
  {"ramfs", "local, in memory"},
  {"vfat", "local"},
  {"exfat", "local"},
  {"ntfs*", "local"},
  {"fuseblk", "local, served by a program"},
  {"overlay", "local, of layers, as in containers: a file of the same name in another container, or on the host, is "
              "another file"},
  {"aufs", "local, of layers, as in containers: a file of the same name in another container is another file"},
  {"nfs*", "network: locks go to the server (both kinds as byte ranges), if that offers locking"},
  {"cifs", "network: locks go to the server as byte ranges that keep others from reading and writing, too"},
  {"smb*", "network: locks go to the server as byte ranges that keep others from reading and writing, too"},
  {"virtiofs", "shared with the host of a virtual machine: locks reach the host and its other guests only if virtiofsd "
               "was told so"},
  {"9p", "shared with the host of a virtual machine or a container: locks stay on this side, as a rule"},
  {"vboxsf", "shared with the host of a virtual machine: locks stay on this side"},
  {"fuse.sshfs", "network: locks stay on this machine"},
  {"fuse.s3fs", "network: locks stay on this machine"},
  {"fuse.rclone", "network: locks stay on this machine"},
  {"fuse.gcsfuse", "network: locks stay on this machine"},
  {"fuse.glusterfs", "network: locks go to the servers"},
  {"fuse*", "served by a program: locks reach that program only if it wants them, and stay on this machine otherwise"},
  {"ceph", "network: locks go to the servers"},
  {"lustre", "network: locks go to the servers if it is mounted with 'flock'"},
  {"gfs2", "shared by several machines: locks reach them all"},
  {"ocfs2", "shared by several machines: locks reach them all"},
};

std::string reach_of(std::string_view type)
{
  for (const Known& known : k_known) {
    const bool is_prefix = known.type.back() == '*';
    const std::string_view name = known.type.substr(0, known.type.size() - (is_prefix ? 1 : 0));
    if (is_prefix ? type.starts_with(name) : type == name) { return known.reach; }
  }
  return "nothing is known of it beyond what was tried";
}

bool has_option(std::string_view options, std::string_view wanted)
{
  while (!options.empty()) {
    const std::string_view option = options.substr(0, options.find(','));
    if (option == wanted) { return true; }
    options.remove_prefix(option.size() == options.size() ? option.size() : option.size() + 1);
  }
  return false;
}

// Options of a mount that make locks stay on this machine (nfs(5), mount.cifs(8)).
std::string caution_on(const sys::Mount& mount)
{
  const bool is_nfs = mount.type.starts_with("nfs");
  const bool is_cifs = mount.type == "cifs" || mount.type.starts_with("smb");
  for (const char* const option : {"nolock", "local_lock=all", "local_lock=flock", "local_lock=posix"}) {
    if (is_nfs && has_option(mount.options, option)) {
      return fmt::format("it is mounted with '{}': such locks stay on this machine", option);
    }
  }
  if (is_cifs && has_option(mount.options, "nobrl")) {
    return "it is mounted with 'nobrl': locks stay on this machine";
  }
  return {};
}

std::string outcome_words(const ProbedLock& lock)
{
  switch (lock.outcome) {
  case Outcome::excludes:
    return "works";
  case Outcome::does_not_exclude:
    return "does not work: two had it at once";
  case Outcome::is_not_released:
    return "does not work: it was still busy when nobody had it";
  case Outcome::refused:
    return "does not work: " + text::errno_words(lock.cause.code);
  case Outcome::not_tried:
    break;
  }
  return "not tried: it needs a regular file that may be written";
}

bool works(const ProbedLock& lock)
{
  return lock.outcome == Outcome::excludes;
}

bool is_good_enough(const Probe& probe, Api wanted)
{
  const bool flock_is_good = wanted == Api::ofd || works(probe.flock);
  const bool ofd_is_good = wanted == Api::flock || works(probe.ofd);
  return flock_is_good && ofd_is_good;
}

std::string text_of(const Probe& probe, const std::string& name)
{
  std::string text = fmt::format("{}\n", text::quoted(name));
  if (probe.mount) {
    const std::string caution = caution_on(*probe.mount);
    text += fmt::format(
      "  file system  {}, mounted at {}\n", text::escaped(probe.mount->type), text::quoted(probe.mount->place));
    text += fmt::format("  reach        {}\n", reach_of(probe.mount->type));
    if (!caution.empty()) { text += fmt::format("               {}\n", caution); }
  }
  text += fmt::format("  flock        {}\n", outcome_words(probe.flock));
  text += fmt::format("  ofd          {}\n", outcome_words(probe.ofd));
  if (works(probe.flock) && works(probe.ofd)) {
    text += fmt::format("  together     {}\n",
      probe.see_each_other ? "flock and ofd see each other: who has the one keeps others from the other"
                           : "flock and ofd do not see each other");
  }
  return text;
}

} // namespace

int show_probe(const Question& question, const Reporting& reporting, int conflict_exit_code)
{
  if (const auto filled = fill_standard_descriptors(); !filled) { return report_no_files(filled.error(), reporting); }
  const LockRequest& request = question.locks.front().request;
  auto probed = probe(request);
  if (!probed) {
    Error& error = probed.error();
    if (error.reason == Reason::wrong_type) { error.detail = "neither a regular file nor a directory"; }
    report(error, request, reporting);
    return exit_code_for(error, conflict_exit_code);
  }
  const int printed = print(text_of(*probed, request.path));
  if (printed != k_success) { return printed; }
  return is_good_enough(*probed, request.api) ? k_success : k_unavailable;
}

} // namespace lockrun::cli
