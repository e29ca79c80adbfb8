"""The atlas: what is known of every neuron of one model, and how it is collected from a corpus."""
