"""Everything with a forward: backbones, experts, gate, routing, and the mixture of them."""
