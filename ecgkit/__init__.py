"""ecgkit: the package behind the replication kit for ECG-language research.

Data flows down this list; a room imports only from rooms above it (`tests/test_layers.py` checks):

    types, config, runtime, runs   what everything speaks: shapes, units, settings, run folder
      data/        where ECGs, questions and outcomes come from
      features/    what is computed from one ECG
      text/        what is said about one ECG, and who says it
      models/      torch modules: no data access, no training, no metrics
      tasks/       one study each: batch -> loss, train, evaluate
      reports/     what a person looks at: figures, widgets, tables
    parity, runner, cli, notebooks   thin: they choose, call and explain

Importing `ecgkit` itself is cheap: it does not import torch. For research and teaching, not for
diagnosis.
"""

__version__ = "0.1.0"
