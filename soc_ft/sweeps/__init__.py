"""Jobs of a sweep: submitted to Slurm or run here one by one, watched, and run again.

A sweep is a folder. ``sweep.json`` says how it was submitted, ``code-<n>`` is the package as it was
then, and each job's folder has the whole configuration in ``job.yaml`` (:mod:`.job`), what became
of it in ``status.json`` and ``submissions.jsonl`` (:mod:`.record`), and what every run folder has.
Nothing else is needed to know the state of a sweep (:mod:`.status`) or to go on with it.
"""
