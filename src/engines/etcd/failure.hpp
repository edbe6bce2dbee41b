#pragma once

#include "engines/backend.hpp"
#include "engines/net/trouble.hpp"

namespace lockrun::engines::etcd {

// What lockrun is told when a call to etcd came to nothing.
Failure failure_from(const net::Trouble& trouble);
tl::unexpected<Failure> failed(const net::Trouble& trouble);

} // namespace lockrun::engines::etcd
