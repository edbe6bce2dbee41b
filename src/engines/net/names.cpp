#include "engines/net/names.hpp"

#include "sys/thread.hpp"
#include "text/words.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/eventfd.h>

namespace lockrun::engines::net {
namespace {

constexpr std::size_t k_stack = 512 * 1024; // plugins of nsswitch.conf(5) run on it
constexpr std::size_t k_most_addresses = 16;

bool is_same(const sys::SocketAddress& a, const sys::SocketAddress& b)
{
  return a.size == b.size && std::memcmp(&a.storage, &b.storage, a.size) == 0;
}

// So that a family that leads nowhere costs one try, not as many as it has addresses.
std::vector<sys::SocketAddress> alternating(const std::vector<sys::SocketAddress>& addresses)
{
  std::vector<sys::SocketAddress> one;
  std::vector<sys::SocketAddress> other;
  for (const sys::SocketAddress& address : addresses) {
    (address.storage.ss_family == addresses.front().storage.ss_family ? one : other).push_back(address);
  }
  std::vector<sys::SocketAddress> all;
  for (std::size_t i = 0; i < std::max(one.size(), other.size()); ++i) {
    if (i < one.size()) { all.push_back(one[i]); }
    if (i < other.size()) { all.push_back(other[i]); }
  }
  all.resize(std::min(all.size(), k_most_addresses));
  return all;
}

} // namespace

// What the threads share with the one that waits for them.
struct Host::LookUp {
  struct Part {
    std::atomic<bool> is_done{false};
    Found found{};
  };
  Endpoint endpoint;
  Bell bell;
  Part all{};
  Part ipv4{};
  bool has_ipv4 = false; // it has been started
};

struct Host::Task {
  std::shared_ptr<LookUp> look_up;
  int family;
};

Bell make_bell()
{
  return std::make_shared<const sys::Descriptor>(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

void silence(const Bell& bell)
{
  ::eventfd_t ignored = 0;
  (void)::eventfd_read(bell->get(), &ignored); // it may be silent already
}

bool is_address(const std::string& host)
{
  unsigned char bytes[sizeof(::in6_addr)];
  return ::inet_pton(AF_INET, host.c_str(), bytes) == 1 || ::inet_pton(AF_INET6, host.c_str(), bytes) == 1;
}

Host::Found Host::find(const Endpoint& endpoint, int family, int flags)
{
  ::addrinfo hints{};
  hints.ai_family = family;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  ::addrinfo* list = nullptr;
  Found found;
  found.error = ::getaddrinfo(endpoint.host.c_str(), endpoint.port.c_str(), &hints, &list);
  if (found.error != 0) { return found; }
  for (const ::addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    sys::SocketAddress& address = found.addresses.emplace_back();
    std::memcpy(&address.storage, entry->ai_addr, entry->ai_addrlen);
    address.size = entry->ai_addrlen;
  }
  ::freeaddrinfo(list);
  return found;
}

void* Host::run(void* task)
{
  const std::unique_ptr<Task> owned(static_cast<Task*>(task));
  LookUp& shared = *owned->look_up;
  LookUp::Part& part = owned->family == AF_INET ? shared.ipv4 : shared.all;
  part.found = find(shared.endpoint, owned->family, owned->family == AF_INET ? 0 : AI_ADDRCONFIG);
  part.is_done.store(true, std::memory_order_release);
  (void)::eventfd_write(shared.bell->get(), 1); // only fails after 2^64 of them
  return nullptr;
}

Result<void> Host::start(int family)
{
  auto task = std::make_unique<Task>(Task{m_look_up, family});
  const auto started = sys::start_thread(run, task.get(), k_stack);
  if (!started) { return tl::unexpected(started.error()); }
  sys::detach(*started);
  (void)task.release(); // the thread's now
  return {};
}

void Host::look_up()
{
  if (is_address(m_endpoint.host)) {
    if (m_addresses.empty()) { accept(find(m_endpoint, AF_UNSPEC, AI_NUMERICHOST)); }
    return;
  }
  if (m_look_up) {
    if (m_addresses.empty() && !m_look_up->has_ipv4) { m_look_up->has_ipv4 = start(AF_INET).has_value(); }
    return;
  }
  m_look_up = std::make_shared<LookUp>();
  m_look_up->endpoint = m_endpoint;
  m_look_up->bell = m_bell;
  const auto started = start(AF_UNSPEC);
  if (started) { return; }
  m_look_up.reset();
  m_trouble =
    Trouble{Trouble::Kind::unavailable, "cannot look up its name: " + text::errno_words(started.error().code)};
}

bool Host::take()
{
  const auto is_done = [](const LookUp::Part& part) { return part.is_done.load(std::memory_order_acquire); };
  if (!m_look_up) { return false; }
  if (is_done(m_look_up->all)) {
    accept(m_look_up->all.found);
    m_look_up.reset();
    return true;
  }
  // A failure of this part says nothing: the other one may know better.
  if (!m_addresses.empty() || !is_done(m_look_up->ipv4) || m_look_up->ipv4.found.error != 0) { return false; }
  accept(m_look_up->ipv4.found);
  return true;
}

void Host::accept(const Found& found)
{
  m_trouble.reset();
  if (found.error != 0 || found.addresses.empty()) {
    const char* const words = found.error == 0 ? "its name has no addresses" : ::gai_strerror(found.error);
    // The name's servers may be away for a while; a name that they do not know is another matter.
    const bool may_pass = found.error == EAI_AGAIN || found.error == EAI_SYSTEM || found.error == EAI_MEMORY;
    m_trouble = Trouble{may_pass ? Trouble::Kind::unavailable : Trouble::Kind::unreachable, words};
    return;
  }
  std::optional<sys::SocketAddress> preferred;
  if (!m_addresses.empty()) { preferred = m_addresses.front(); }
  m_addresses = alternating(found.addresses);
  if (preferred) { prefer(*preferred); }
}

// Only if it is still one of them.
void Host::prefer(const sys::SocketAddress& address)
{
  const auto found = std::find_if(
    m_addresses.begin(), m_addresses.end(), [&](const sys::SocketAddress& known) { return is_same(known, address); });
  if (found != m_addresses.end()) { std::rotate(m_addresses.begin(), found, found + 1); }
}

} // namespace lockrun::engines::net
