"""The contract: every operation as a frozen model, in one union discriminated by `operation`.

A new operation is its models in a file by theme, a line in `contract.BUILT_IN`, its recipe, and its test.
"""

from safelight.core.operations.contract import Contract, OperationSpec, operation_table

__all__ = ["Contract", "OperationSpec", "operation_table"]
