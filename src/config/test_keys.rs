//! Public keys for tests. Nobody has their private halves.

pub(crate) const ED25519: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
pub(crate) const OTHER: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGEgc2Vjb25kIGtleSBmb3IgdGhlIHRlc3RzLCAzMmJ5";
pub(crate) const ECDSA: &str = "ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBAArbyl7q3zGHB/6/w1RnBm/GwwwHdnka0MjLzhKzgvq0OJtC/gZzNi11OditBIaIvtgCscyGgBdqGOwkZfEkfvrXgFqnF3fnBuW3TlNMTD8wcfleFPt9c4JAjKemx5BWDGulmRsGmMO+9+WFevQJD90ZgsRgK7RYuw3GAbDNpCA4XGwdg==";
pub(crate) const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDJJzuAC/fdl30ssstArgYVa09+zvDtgzvMUbP9fiba1SOqTR1tg/6OF6W+rp5FikO+SbnWpYvtaluyD7w/r1F75Yu8vLqhIisOFxIZMZKC6eWI4yfSpC89LH1CHYSRt3il+FGqYQVolAeka3mnhDbK8la9zxq3NNr11EF4P6EjWQ==";
