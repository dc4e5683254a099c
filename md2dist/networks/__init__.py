"""Networks of Monodepth2: ResNet encoders, depth decoder, pose decoder."""
