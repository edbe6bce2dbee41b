#pragma once

#include "engines/backend.hpp"

#include <memory>

namespace lockrun::engines {

// The life of an engine program: it talks to lockrun, keeps time and calls the backend. Returns its exit status.
int run_session(Backend& backend, Attention& attention);

// What the main() of an engine program does: one session with the backend that `make` makes. Ends the process.
[[noreturn]] void run_program(std::unique_ptr<Backend> (*make)(const Attention& attention));

} // namespace lockrun::engines
