//! Building blocks of whole-system tests: network namespaces, veth pairs, daemons, simulated clients.
