"""The networks, in Linen; they know no loss, optimizer or mesh."""
