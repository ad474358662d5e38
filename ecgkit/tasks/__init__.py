"""One study each: batch -> loss, train, evaluate."""
