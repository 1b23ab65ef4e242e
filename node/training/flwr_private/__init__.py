"""The only place that imports what Flower does not promise to keep.

That is all of `flwr` but `flwr.app`, `flwr.clientapp` and `flwr.serverapp`. One module per process, so that no child
pays for the imports of another. `tests/units/test_training_contract.py` states what each import must still be like.
"""
