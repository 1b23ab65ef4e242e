"""The only place that imports what Flower does not promise to keep (all of `flwr` but its public `flwr.app`,
`flwr.clientapp`, `flwr.serverapp`). One module per process, so that no child pays for the imports of another.
`tests/units/test_training_flwr_contract.py` states what each import must still be like.
"""
