"""The networks of Monodepth2: ResNet encoders, the depth decoder and the pose decoder."""
