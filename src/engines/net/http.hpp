#pragma once

#include "engines/net/wire.hpp"

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace lockrun::engines::net {

struct HttpAnswer {
  unsigned status = 0;
  std::string body;
};

struct HttpRequest {
  std::string path;
  std::string body;
  std::string authorization; // empty: none
};

// One HTTP/1.1 connection, for one thing after the other. Nothing here blocks: when something has to wait, it is to be
// called again once descriptor() is ready for events(). What a server sends is bounded; one that sends more is at
// fault.
class HttpConnection {
public:
  HttpConnection(Wire wire, const std::string& host);
  HttpConnection(HttpConnection&&) noexcept;
  HttpConnection& operator=(HttpConnection&&) noexcept;
  ~HttpConnection();

  // Requests that are POSTed all at once; the server answers one after the other. Without any it only connects.
  void ask(const std::vector<HttpRequest>& requests);
  // One more, after those that it was asked for already.
  void ask_also(const HttpRequest& request);
  Reply<Progress> advance();
  std::vector<HttpAnswer> take_answers(); // after `done`

  // The moment just before the first byte went out, on the elapsed clock; 0 before that.
  std::chrono::nanoseconds asked() const noexcept;

  // How much of the answers has arrived.
  std::size_t size() const noexcept;

  // Whether it can be asked something else: not once an answer was the last one, or came only in part.
  bool is_usable() const noexcept;

  // Asks for something whose answer has no end: advance() is done once that is sent. What has arrived of its body is
  // then taken in pieces.
  void open_stream(const HttpRequest& request);
  struct Piece {
    std::string bytes; // may be empty
    bool is_last = false;
  };
  Reply<Piece> take_piece();
  unsigned stream_status() const; // 0 while there is no header yet

  int descriptor() const noexcept;
  short events() const noexcept;

private:
  struct State;
  std::unique_ptr<State> m_state;
};

} // namespace lockrun::engines::net
