"""Who earned what: contribution scores and their settlement, in integers and exact fractions."""
