#include "engines/net/servers.hpp"

#include "engines/net/server_call.hpp"
#include "sys/clock.hpp"

#include <algorithm>
#include <random>
#include <utility>

namespace lockrun::engines::net {
namespace {

using Kind = Trouble::Kind;
using Wrong = tl::unexpected<Trouble>;

constexpr std::size_t k_most_late = 16; // connections that wait to be recalled
constexpr std::int64_t k_survey = 0;    // in the background; other numbers are late calls,
constexpr std::int64_t k_recalled = -1; // or were
// How long a survey waits for a server that shows no sign of life: the others have answered long since.
constexpr milliseconds k_sign_of_life{50};
constexpr milliseconds k_longest_survey{10'000};

} // namespace

void Servers::open(const std::vector<Endpoint>& endpoints, std::optional<TlsFiles> files)
{
  for (const Endpoint& endpoint : endpoints) { m_hosts.emplace_back(endpoint, m_bell); }
  m_files = std::move(files);
  if (m_hosts.size() > 1) {
    std::random_device device;
    m_current = std::uniform_int_distribution<std::size_t>(0, m_hosts.size() - 1)(device);
  }
}

// Made when it is needed: it takes milliseconds to read who is to be trusted.
Reply<::SSL_CTX*> Servers::context()
{
  if (m_files && !m_context) {
    auto made = make_tls_context(*m_files);
    if (!made) { return Wrong(made.error()); }
    m_context = std::move(*made);
  }
  return m_context.get();
}

Reply<HttpConnection> Servers::begin(std::size_t server, const sys::SocketAddress& address)
{
  const auto trusted = context();
  if (!trusted) { return Wrong(trusted.error()); }
  const Endpoint& endpoint = m_hosts[server].endpoint();
  auto wire = Wire::begin(address, endpoint.host, *trusted);
  if (!wire) { return Wrong(wire.error()); }
  return HttpConnection(std::move(*wire), endpoint.text());
}

Reply<Exchange> Servers::ask(const std::vector<HttpRequest>& requests, const Limits& limits, const Verdict& verdict)
{
  Call call(*this, requests, limits, verdict);
  auto winner = call.run();
  if (limits.late != 0) { call.keep_late(); }
  if (!winner) {
    if (winner.error().kind != Kind::interrupted) { m_last_trouble = winner.error(); }
    return Wrong(winner.error());
  }
  m_last_trouble.reset();
  m_backoff.reset();
  m_not_before = Instant(0);
  const Instant asked = winner->asked();
  if (winner->is_usable()) { m_connection = std::move(*winner); }
  return Exchange{call.take_answers(), asked, call.first_asked()};
}

Reply<HttpConnection> Servers::connect(const Limits& limits)
{
  const std::vector<HttpRequest> nothing;
  const Verdict any = [](const auto&) { return std::nullopt; };
  Call call(*this, nothing, limits, any);
  return call.run();
}

void Servers::keep_late(std::size_t server, std::int64_t late, HttpConnection connection)
{
  auto& tasks = m_background.tasks();
  const auto is_late = [](const Background::Task& task) { return task.id != k_survey; };
  if (static_cast<std::size_t>(std::count_if(tasks.begin(), tasks.end(), is_late)) >= k_most_late) {
    tasks.erase(std::find_if(tasks.begin(), tasks.end(), is_late));
  }
  m_background.add({server, late, std::move(connection)});
}

void Servers::recall(std::int64_t late, const HttpRequest& request)
{
  for (Background::Task& task : m_background.tasks()) {
    if (task.id != late) { continue; }
    task.connection.ask_also(request);
    (void)task.connection.advance(); // sends it; what is wrong with it shows later
    task.id = k_recalled;
  }
}

void Servers::await_late(Instant until)
{
  std::erase_if(m_background.tasks(), [](const Background::Task& task) { return task.id == k_survey; });
  while (!m_background.tasks().empty() && sys::elapsed_now() < until) {
    std::vector<::pollfd> descriptors;
    if (wait(descriptors, until) == Attention::Woken::by_lockrun) { return; }
  }
}

// Begins with those servers whose addresses are known by now, all of which are tried.
void Servers::go_on_with_survey(const std::vector<std::size_t>& asked)
{
  if (!m_survey) { return; }
  if (m_survey->is_due.empty()) {
    m_survey->is_due.assign(size(), true);
    for (const std::size_t server : asked) { m_survey->is_due[server] = false; }
    m_survey->began = sys::elapsed_now();
  }
  for (std::size_t server = 0; server < size(); ++server) {
    if (!m_survey->is_due[server] || m_hosts[server].addresses().empty()) { continue; }
    m_survey->is_due[server] = false;
    survey(server);
  }
}

void Servers::survey(std::size_t server)
{
  for (const sys::SocketAddress& address : m_hosts[server].addresses()) {
    auto connection = begin(server, address);
    if (!connection) { continue; } // nothing can be asked there
    connection->ask({m_survey->request});
    m_background.add({server, k_survey, std::move(*connection)});
  }
}

bool Servers::is_survey_over() const
{
  for (std::size_t server = 0; server < size(); ++server) {
    const bool is_due = m_survey->is_due.empty() || m_survey->is_due[server];
    if (is_due && m_hosts[server].is_being_looked_up()) { return false; }
  }
  const auto& tasks = m_background.tasks();
  return std::none_of(tasks.begin(), tasks.end(), [](const Background::Task& task) { return task.id == k_survey; });
}

// Callers that ask the servers in different orders see the same latencies, if they are in the same place: whichever
// server a call takes its time with, those that are faster have answered in the meantime.
Reply<void> Servers::await_survey(Instant until)
{
  while (m_survey) {
    go_on_with_survey({m_current});
    if (is_survey_over()) { break; }
    const auto& tasks = m_background.tasks();
    const bool is_alive = std::any_of(
      tasks.begin(), tasks.end(), [](const Background::Task& task) { return task.id == k_survey && task.is_alive; });
    const Instant limit = std::min<Instant>(until, m_survey->began + (is_alive ? k_connection_delay : k_sign_of_life));
    std::vector<::pollfd> descriptors{{m_bell->get(), POLLIN, 0}};
    const auto woken = wait(descriptors, limit);
    if (woken == Attention::Woken::by_lockrun) { return Wrong(Trouble{Kind::interrupted, std::string()}); }
    if (woken == Attention::Woken::by_time) { break; }
    silence(m_bell);
    for (Host& host : m_hosts) { (void)host.take(); } // what failed is no answer
  }
  return {};
}

std::vector<std::pair<std::size_t, HttpAnswer>> Servers::take_survey()
{
  return m_survey ? std::exchange(m_survey->heard, {}) : std::vector<std::pair<std::size_t, HttpAnswer>>();
}

void Servers::look_at_background()
{
  auto& tasks = m_background.tasks();
  if (tasks.empty()) { return; }
  std::vector<::pollfd> descriptors;
  (void)wait(descriptors, Instant(0));
  if (m_survey && sys::elapsed_now() >= m_survey->began + k_longest_survey) {
    std::erase_if(tasks, [](const Background::Task& task) { return task.id == k_survey; });
  }
}

// For these, and for what goes on in the background, whose descriptors are added to them.
Attention::Woken Servers::wait(std::vector<::pollfd>& descriptors, Instant until)
{
  const std::size_t own = descriptors.size();
  m_background.add_interests(descriptors);
  const auto woken = m_attention.wait(descriptors, until);
  auto& tasks = m_background.tasks();
  for (Background::Answers& arrived : m_background.go_on(std::span(descriptors).subspan(own))) {
    if (m_survey) { m_survey->heard.emplace_back(arrived.server, std::move(arrived.answers.front())); }
    if (arrived.id != k_survey) { continue; }
    std::erase_if(tasks, [&](const Background::Task& task) { // other addresses of the same
      return task.id == k_survey && task.server == arrived.server;
    });
  }
  return woken;
}

} // namespace lockrun::engines::net
