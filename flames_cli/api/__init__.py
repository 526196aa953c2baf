"""The public API: functions, results and types that `flames_cli` offers to Python code.

`import flames_cli` loads these modules when a name is first used. Each function calls one stage, prints
nothing, and returns a frozen result. docs/api.md describes the surface and its stability.
"""
