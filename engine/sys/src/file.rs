//! Files with everything a layer can hold: nodes, attributes, times; atomic writes.
