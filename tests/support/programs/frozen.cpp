// frozen DIRECTORY FD: a file server (FUSE, <linux/fuse.h>) with one file "command", which answers no more once it was
// asked for that: opening it blocks. Prints "mounted", or "failed". Ends, and lets go of everything, with the end of
// file of FD.

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

constexpr std::uint64_t k_file = 2; // its number; the directory's is FUSE_ROOT_ID
constexpr std::uint64_t k_long = 3600;

template <class Body>
void answer(int device, const fuse_in_header& request, const Body& body)
{
  struct {
    fuse_out_header header;
    Body body;
  } message{{sizeof message, 0, request.unique}, body};
  (void)!::write(device, &message, sizeof message);
}

void refuse(int device, const fuse_in_header& request, int code)
{
  const fuse_out_header header{sizeof header, -code, request.unique};
  (void)!::write(device, &header, sizeof header);
}

fuse_attr attributes(std::uint64_t node)
{
  fuse_attr result{};
  result.ino = node;
  result.mode = node == k_file ? S_IFREG | 0755 : S_IFDIR | 0755;
  result.nlink = 1;
  return result;
}

// Whether it goes on.
bool serve(int device, const char* bytes)
{
  fuse_in_header request{};
  std::memcpy(&request, bytes, sizeof request);
  const char* const rest = bytes + sizeof request;
  switch (request.opcode) {
  case FUSE_INIT: {
    fuse_init_in wish{};
    std::memcpy(&wish, rest, sizeof wish);
    fuse_init_out out{};
    out.major = FUSE_KERNEL_VERSION;
    out.minor = wish.minor < FUSE_KERNEL_MINOR_VERSION ? wish.minor : FUSE_KERNEL_MINOR_VERSION;
    out.max_write = 4096;
    answer(device, request, out);
    return true;
  }
  case FUSE_GETATTR: {
    fuse_attr_out out{};
    out.attr_valid = k_long;
    out.attr = attributes(request.nodeid);
    answer(device, request, out);
    return true;
  }
  case FUSE_LOOKUP: {
    if (std::strcmp(rest, "command") != 0) {
      refuse(device, request, ENOENT);
      return true;
    }
    fuse_entry_out out{};
    out.nodeid = k_file;
    out.entry_valid = k_long;
    out.attr_valid = k_long;
    out.attr = attributes(k_file);
    answer(device, request, out);
    return false;
  }
  case FUSE_FORGET:
  case FUSE_BATCH_FORGET:
    return true;
  default:
    refuse(device, request, ENOSYS);
    return true;
  }
}

} // namespace

int main(int, char** argv)
{
  const int device = ::open("/dev/fuse", O_RDWR | O_CLOEXEC);
  const std::string options = "fd=" + std::to_string(device) + ",rootmode=40000,user_id=0,group_id=0";
  if (device < 0 || ::mount("frozen", argv[1], "fuse", MS_NOSUID | MS_NODEV, options.c_str()) != 0) {
    std::puts("failed");
    return 1;
  }
  std::puts("mounted");
  std::fflush(stdout);
  pollfd sources[] = {{std::atoi(argv[2]), POLLIN, 0}, {device, POLLIN, 0}};
  static char buffer[FUSE_MIN_READ_BUFFER + 4096];
  while (::poll(sources, 2, -1) > 0 && sources[0].revents == 0) {
    if (::read(device, buffer, sizeof buffer) <= 0) { continue; }
    if (!serve(device, buffer)) { sources[1].fd = -1; }
  }
  ::umount2(argv[1], MNT_DETACH);
  return 0;
}
