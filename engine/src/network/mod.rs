//! Networks, endpoints and the firewall.
