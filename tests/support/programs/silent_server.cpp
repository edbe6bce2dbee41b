// silent_server DIRECTORY [KIND]: a file system at DIRECTORY (FUSE, <linux/fuse.h>), with the empty files "lock" and
// "other" in it, whose server stops reading requests once it has answered one of KIND (lookup, open, flock, setlk,
// write), or at once: what is asked then is never answered, as by a server that was stopped. Prints "mounted" when it
// is there. Ends, and lets go of everything, with the end of its standard input. Needs root.

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include <csignal>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

namespace {

constexpr std::uint64_t k_lock = 2;
constexpr std::uint64_t k_other = 3;
constexpr std::uint64_t k_long = 3600;

int device = -1;

void reply(std::uint64_t unique, int error, const void* data = nullptr, std::size_t size = 0)
{
  fuse_out_header header{};
  header.len = static_cast<std::uint32_t>(sizeof header + size);
  header.error = -error;
  header.unique = unique;
  const iovec parts[] = {{&header, sizeof header}, {const_cast<void*>(data), size}};
  (void)!::writev(device, parts, size == 0 ? 1 : 2);
}

fuse_attr attributes_of(std::uint64_t node)
{
  fuse_attr attributes{};
  attributes.ino = node;
  attributes.mode = node == FUSE_ROOT_ID ? S_IFDIR | 0777U : S_IFREG | 0666U;
  attributes.nlink = node == FUSE_ROOT_ID ? 2 : 1;
  attributes.blksize = 4096;
  return attributes;
}

void answer_lookup(const fuse_in_header& request, const char* name)
{
  fuse_entry_out entry{};
  if (std::strcmp(name, "lock") == 0) { entry.nodeid = k_lock; }
  if (std::strcmp(name, "other") == 0) { entry.nodeid = k_other; }
  if (entry.nodeid == 0) { return reply(request.unique, ENOENT); }
  entry.attr = attributes_of(entry.nodeid);
  entry.entry_valid = entry.attr_valid = k_long; // so that one lookup is all there is
  reply(request.unique, 0, &entry, sizeof entry);
}

const char* kind_of(std::uint32_t operation, const void* body)
{
  switch (operation) {
  case FUSE_LOOKUP:
    return "lookup";
  case FUSE_OPEN:
    return "open";
  case FUSE_SETLK:
  case FUSE_SETLKW: {
    const auto& lock = *static_cast<const fuse_lk_in*>(body);
    return (lock.lk_flags & FUSE_LK_FLOCK) != 0 ? "flock" : "setlk";
  }
  case FUSE_WRITE:
    return "write";
  default:
    return "";
  }
}

void answer(const fuse_in_header& request, const void* body)
{
  switch (request.opcode) {
  case FUSE_INIT: {
    fuse_init_out init{};
    init.major = FUSE_KERNEL_VERSION;
    init.minor = FUSE_KERNEL_MINOR_VERSION;
    init.flags = static_cast<const fuse_init_in*>(body)->flags & (FUSE_FLOCK_LOCKS | FUSE_POSIX_LOCKS);
    init.max_write = 4096;
    return reply(request.unique, 0, &init, sizeof init);
  }
  case FUSE_LOOKUP:
    return answer_lookup(request, static_cast<const char*>(body));
  case FUSE_GETATTR: {
    fuse_attr_out out{};
    out.attr = attributes_of(request.nodeid);
    out.attr_valid = k_long;
    return reply(request.unique, 0, &out, sizeof out);
  }
  case FUSE_OPEN: {
    fuse_open_out out{};
    out.open_flags = FOPEN_NOFLUSH; // or the end of a process would wait for an answer
    return reply(request.unique, 0, &out, sizeof out);
  }
  case FUSE_WRITE: {
    fuse_write_out out{};
    out.size = static_cast<const fuse_write_in*>(body)->size;
    return reply(request.unique, 0, &out, sizeof out);
  }
  case FUSE_STATFS: {
    const fuse_statfs_out out{};
    return reply(request.unique, 0, &out, sizeof out);
  }
  case FUSE_SETLK:
  case FUSE_SETLKW:
  case FUSE_UNLINK:
  case FUSE_RELEASE:
  case FUSE_FLUSH:
  case FUSE_SETATTR:
    return reply(request.unique, 0);
  case FUSE_FORGET:
  case FUSE_BATCH_FORGET:
  case FUSE_INTERRUPT: // a request that is not answered is not answered when it is interrupted either
    return;
  default:
    return reply(request.unique, ENOSYS);
  }
}

} // namespace

int main(int argc, char** argv)
{
  if (argc < 2) { return 64; }
  (void)::prctl(PR_SET_PDEATHSIG, SIGTERM);
  const std::string last = argc > 2 ? argv[2] : "";
  device = ::open("/dev/fuse", O_RDWR | O_CLOEXEC);
  const std::string options = "fd=" + std::to_string(device) + ",rootmode=40000,user_id=0,group_id=0,allow_other";
  if (device < 0 || ::mount("silent", argv[1], "fuse", MS_NOSUID | MS_NODEV, options.c_str()) != 0) {
    std::perror("silent_server");
    return 1;
  }
  (void)std::setvbuf(stdout, nullptr, _IOLBF, 0);
  std::puts("mounted");
  std::vector<char> buffer(1U << 17U);
  pollfd sources[] = {{device, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
  while (::poll(sources, 2, -1) >= 0 && sources[1].revents == 0) {
    if (sources[0].revents == 0) { continue; }
    if (::read(device, buffer.data(), buffer.size()) <= 0) {
      if (errno == EINTR || errno == EAGAIN || errno == ENOENT) { continue; }
      break;
    }
    const auto& request = *reinterpret_cast<const fuse_in_header*>(buffer.data());
    const void* const body = buffer.data() + sizeof request;
    answer(request, body);
    const std::string kind = kind_of(request.opcode, body);
    if (request.opcode == FUSE_INIT ? last.empty() : kind == last) { sources[0].fd = -1; }
  }
  (void)::umount2(argv[1], MNT_DETACH | MNT_FORCE); // whatever waits for an answer fails with ECONNABORTED
}
