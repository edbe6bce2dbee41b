#include "support/name_server.hpp"

#include <cerrno>
#include <memory>
#include <system_error>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

constexpr std::uint16_t k_port = 53;
constexpr std::size_t k_header = 12; // RFC 1035, section 4.1.1

[[noreturn]] void give_up(const char* call)
{
  throw std::system_error(errno, std::generic_category(), call);
}

void add_16(std::string& bytes, unsigned value)
{
  bytes += static_cast<char>(value >> 8U);
  bytes += static_cast<char>(value & 0xffU);
}

unsigned get_16(const std::string& bytes, std::size_t at)
{
  return static_cast<unsigned>(static_cast<unsigned char>(bytes.at(at))) << 8U |
         static_cast<unsigned char>(bytes.at(at + 1));
}

// The end of the name that begins there; its labels with dots between them.
std::size_t read_name(const std::string& bytes, std::size_t at, std::string& name)
{
  for (;;) {
    const auto length = static_cast<std::size_t>(static_cast<unsigned char>(bytes.at(at++)));
    if (length == 0) { return at; }
    if (!name.empty()) { name += '.'; }
    name += bytes.substr(at, length);
    at += length;
  }
}

std::string answer_to(const std::string& query, std::size_t end_of_question, NameServer::Type type,
  NameServer::Code code, const std::vector<std::string>& addresses)
{
  std::string records;
  unsigned count = 0;
  for (const std::string& address : addresses) {
    unsigned char bytes[sizeof(::in6_addr)];
    const bool is_wanted = type == NameServer::Type::a ? ::inet_pton(AF_INET, address.c_str(), bytes) == 1
                                                       : ::inet_pton(AF_INET6, address.c_str(), bytes) == 1;
    if (!is_wanted) { continue; }
    const unsigned size = type == NameServer::Type::a ? sizeof(::in_addr) : sizeof(::in6_addr);
    add_16(records, 0xc000U | k_header); // the name is that of the question
    add_16(records, static_cast<unsigned>(type));
    add_16(records, 1); // Internet
    add_16(records, 0);
    add_16(records, 0); // not to be remembered
    add_16(records, size);
    records.append(reinterpret_cast<const char*>(bytes), size);
    ++count;
  }
  std::string answer = query.substr(0, 2);
  add_16(answer, 0x8180U | static_cast<unsigned>(code)); // an answer; recursion was wanted and is available
  add_16(answer, 1);
  add_16(answer, count);
  add_16(answer, 0);
  add_16(answer, 0);
  return answer + query.substr(k_header, end_of_question - k_header) + records;
}

} // namespace

NameServer::NameServer(const std::string& address, Script script)
  : m_script(std::move(script)), m_socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0))
{
  ::sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_port = htons(k_port);
  if (::inet_pton(AF_INET, address.c_str(), &where.sin_addr) != 1) { give_up("inet_pton"); }
  if (::bind(m_socket, reinterpret_cast<const ::sockaddr*>(&where), sizeof where) != 0) { give_up("bind"); }
  if (::pipe2(m_end, O_CLOEXEC) != 0) { give_up("pipe2"); }
  m_thread = std::thread([this] { serve(); });
}

NameServer::~NameServer()
{
  ::close(m_end[1]);
  m_thread.join();
  ::close(m_end[0]);
  ::close(m_socket);
}

void NameServer::serve()
{
  for (;;) {
    ::pollfd ends[2] = {{m_socket, POLLIN, 0}, {m_end[0], 0, 0}};
    (void)::poll(ends, 2, -1);
    if (ends[1].revents != 0) { return; }
    if (ends[0].revents == 0) { continue; }
    std::string query(1500, '\0');
    ::sockaddr_storage from{};
    ::socklen_t size = sizeof from;
    const ssize_t count =
      ::recvfrom(m_socket, query.data(), query.size(), 0, reinterpret_cast<::sockaddr*>(&from), &size);
    if (count <= 0) { continue; }
    query.resize(static_cast<std::size_t>(count));
    Question question;
    const std::size_t end_of_name = read_name(query, k_header, question.name);
    question.type = static_cast<Type>(get_16(query, end_of_name));
    {
      const std::lock_guard lock(m_mutex);
      question.number = ++m_count[{question.name, question.type}];
    }
    const Reply reply = [this, query, end_of_name, question, from, size](
                          Code code, const std::vector<std::string>& addresses) {
      const std::string answer = answer_to(query, end_of_name + 4, question.type, code, addresses);
      (void)::sendto(m_socket, answer.data(), answer.size(), MSG_NOSIGNAL, reinterpret_cast<const ::sockaddr*>(&from),
        size); // whoever asked may be gone
    };
    m_script(question, reply);
  }
}

int NameServer::questions() const
{
  const std::lock_guard lock(m_mutex);
  int all = 0;
  for (const auto& [question, count] : m_count) { all += count; }
  return all;
}

int NameServer::questions(const std::string& name, Type type) const
{
  const std::lock_guard lock(m_mutex);
  const auto found = m_count.find({name, type});
  return found == m_count.end() ? 0 : found->second;
}

NameServer::Script always(const std::vector<std::string>& addresses)
{
  return [addresses](const auto&, const NameServer::Reply& reply) { reply(NameServer::Code::ok, addresses); };
}

NameServer::Script always(NameServer::Code code)
{
  return [code](const auto&, const NameServer::Reply& reply) { reply(code, {}); };
}

NameServer::Script silence()
{
  return [](const auto&, const auto&) {};
}

Start with_name_servers(const TempDir& directory, const std::vector<std::string>& addresses, const std::string& more)
{
  std::string servers;
  for (const std::string& address : addresses) { servers += "nameserver " + address + "\n"; }
  Start start;
  for (const auto& [name, text] : std::map<std::string, std::string>{{"hosts", "127.0.0.1 localhost\n"},
         {"nsswitch.conf", "hosts: files dns\n"}, {"resolv.conf", servers + more + "\n"}}) {
    start.before_exec.push_back(hostile::replace_file("/etc/" + name, write_file(directory / name, text)));
  }
  return start;
}

} // namespace lockrun::testing
