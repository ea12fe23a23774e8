"""Working fakes of the doors, shipped for the tests of whoever extends rayscaler; nothing of the product imports this package."""
