"""Hone on Kubeflow Pipelines: everything here derives from the stages.

components.py says what each stage is as a container component; launcher.py is what runs inside its container;
profile.py says where tasks run; compile.py and submit.py turn a pipeline into a run. Only the last three need kfp.
"""
