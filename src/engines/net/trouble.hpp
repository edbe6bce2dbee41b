#pragma once

#include <string>

#include <tl/expected.hpp>

namespace lockrun::engines::net {

// Why a call to one server came to nothing.
struct Trouble {
  enum class Kind {
    interrupted,    // lockrun has something to say
    unreachable,    // no connection
    silent,         // no answer in time, or half of one
    unavailable,    // the server cannot do it at present (an election, no quorum, an overloaded proxy)
    tls,            // no trust, or no TLS where we want it
    wrong_service,  // something answers, but not the service that we want
    other_cluster,  // one of the servers does not belong to the others
    authentication, // wrong or missing user, or one without the permission
    stale_token,    // the authentication has run out
    gone,           // the lease does not exist
    exists,         // the lease exists already
    refused,        // the server says no to what we ask
  };
  Kind kind = Kind::unreachable;
  std::string text;
};
template <class T>
using Reply = tl::expected<T, Trouble>;

// Of something that goes on without blocking.
enum class Progress { done, waiting };

} // namespace lockrun::engines::net
