"""Prediction: depth of single images with a trained model, and pictures of it."""
