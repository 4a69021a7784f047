"""Metrics, inference and the evaluator that training and eval.py share."""
